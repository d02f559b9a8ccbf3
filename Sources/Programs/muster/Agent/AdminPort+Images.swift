import AdminAPI
import AdminHTTP
import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import RaftCore
import Reactor
import TLSSession

// Images, as operators and tenants ask for them. The catalogue is the root's; the bytes of a new one come to the node that is
// asked, part by part.

extension AdminPort {
    private func info(_ image: RootImage) -> ImageInfo {
        ImageInfo(image) { [agent] node in agent.name(of: node) }
    }

    func listImages(_ tenant: String?, _ asker: FleetAsker) {
        agent.refreshView { [self] problem in
            if let problem { return fail(asker, problem) }
            let seen = agent.view.images.filter { image in
                if image.tenant.isEmpty { return true }
                return asker.reaches(image.tenant) && (tenant.map { $0 == image.tenant } ?? true)
            }
            answer(asker, AdminResponse(Listing(seen.map(info))))
        }
    }

    func showImage(_ name: String, _ tenant: String, _ asker: FleetAsker) {
        agent.refreshView { [self] problem in
            if let problem { return fail(asker, problem) }
            guard let image = agent.view.image(name, for: tenant) else {
                return fail(asker, Problem(RootRefusal.unknownImage(name)))
            }
            answer(asker, AdminResponse(info(image)))
        }
    }

    func addImagePart(_ part: ImagePart, _ asker: FleetAsker) {
        if let problem = agent.problem(wanting: FeatureLevel.images) { return fail(asker, problem) }
        if agent.isSpaceLow {
            return fail(
                asker, Problem(.storageLow, "the disk of this node is nearly full; free space, then send it again"))
        }
        guard part.bytes.isEmpty else { return takeImagePart(part, asker) }
        // Where to begin: who may see the image has no need to send its bytes. What this node heard a while ago is no promise.
        agent.refreshView { [self] problem in
            if let problem { return fail(asker, problem) }
            guard let seen = seen(part.digest, for: part.tenant, asker) else { return takeImagePart(part, asker) }
            answer(asker, AdminResponse(ImageProgress(received: Int64(clamping: seen.size))))
        }
    }

    private func takeImagePart(_ part: ImagePart, _ asker: FleetAsker) {
        agent.images.append(upload(part.tenant, part.digest), part.bytes, at: part.offset) { [self] result in
            switch result {
            case .success(let received): answer(asker, AdminResponse(ImageProgress(received: received)))
            case .failure(let failure): fail(asker, Problem(.notPossible, failure.description))
            }
        }
    }

    private func upload(_ tenant: String, _ digest: String) -> ImageFiles.Upload {
        ImageFiles.Upload(tenant: tenant, digest: digest)
    }

    /// An image with these bytes that the asker may see, or the tenant that it asks for, and that somebody has. That there is
    /// one which neither may see is not told, and proves nothing: who knows a hash need not know the bytes.
    private func seen(_ digest: String, for tenant: String, _ asker: FleetAsker) -> RootImage? {
        agent.view.images.first { image in
            image.digest == digest && !image.isLeaving && !agent.liveHolders(image).isEmpty
                && (image.tenant.isEmpty || image.tenant == tenant || asker.reaches(image.tenant))
        }
    }

    func addImage(_ wanted: ImageCreation, _ asker: FleetAsker) {
        if let problem = agent.problem(wanting: FeatureLevel.images) { return fail(asker, problem) }
        agent.refreshView { [self] problem in
            if let problem { return fail(asker, problem) }
            if let seen = seen(wanted.digest, for: wanted.tenant, asker) {
                return name(wanted, size: seen.size, holders: agent.liveHolders(seen), asker)
            }
            agent.images.complete(upload(wanted.tenant, wanted.digest)) { [self] result in
                switch result {
                case .success(let size): name(wanted, size: UInt64(clamping: size), holders: [agent.node], asker)
                case .failure(let failure): fail(asker, Problem(.notPossible, failure.description))
                }
            }
        }
    }

    private func name(_ wanted: ImageCreation, size: UInt64, holders: [NodeID], _ asker: FleetAsker) {
        let image = RootImage(
            tenant: wanted.tenant, name: wanted.name, sha256: [UInt8](hexadecimal: wanted.digest) ?? [], size: size,
            holders: holders)
        agent.change(.addImage(image), request: asker.request(), by: asker.by) { [self] result in
            if case .failure(let problem) = result { return fail(asker, problem) }
            agent.refreshView { [self] problem in
                if let problem { return fail(asker, problem) }
                let made = agent.view.images.first { $0.tenant == wanted.tenant && $0.name == wanted.name }
                answer(asker, AdminResponse(info(made ?? image), status: 201))
            }
        }
    }

    // MARK: Removing

    /// From when it is leaving, no VM is let in that names it; then all cells are asked whether one does.
    func removeImage(_ name: String, _ tenant: String, _ cells: [GroupID], _ asker: FleetAsker) {
        agent.change(.removeImage(tenant: tenant, name: name, .begin, removal: 0), by: asker.by) { [self] result in
            guard case .success(let begun) = result else {
                if case .failure(let problem) = result { fail(asker, problem) }
                return
            }
            let removal = begun.revision.rawValue
            findUser(of: name, tenant, cells[...], after: nil) { [self] found in
                switch found {
                case .failure(let problem): keepImage(name, tenant, removal, asker, problem)
                case .success(let vm?):
                    let whose = vm.tenant == defaultTenant ? vm.name : "\(vm.tenant)/\(vm.name)"
                    keepImage(
                        name, tenant, removal, asker,
                        Problem(
                            .notPossible, "a disk of VM \(whose) begins with the image \(name); delete the VM first"))
                case .success(nil):
                    let finish = RootCommand.Operation.removeImage(
                        tenant: tenant, name: name, .finish, removal: removal)
                    agent.change(finish, by: asker.by) { [self] result in
                        switch result {
                        case .failure(let problem): fail(asker, problem)
                        case .success: answer(asker, AdminResponse(Acceptance("the image \(name) is removed")))
                        }
                    }
                }
            }
        }
    }

    private func keepImage(
        _ name: String, _ tenant: String, _ removal: UInt64, _ asker: FleetAsker, _ problem: Problem
    ) {
        let cancel = RootCommand.Operation.removeImage(tenant: tenant, name: name, .cancel, removal: removal)
        agent.change(cancel, by: asker.by) { [self] _ in fail(asker, problem) }
    }

    /// Looks at all VMs, page by page: images go seldom.
    private func findUser(
        of name: String, _ tenant: String, _ cells: ArraySlice<GroupID>, after: [UInt8]?,
        _ done: @escaping (Result<CellVM?, Problem>) -> Void
    ) {
        guard let cell = cells.first else { return done(.success(nil)) }
        read(.list(.vms, after: after, limit: CellLimits.answerCountMax), .linearizable, cell) { [self] result in
            switch result {
            case .failure(let problem): done(.failure(problem))
            case .success(let found):
                let (rows, next) = AdminPort.rows(found.answer)
                for row in rows {
                    guard case .vm(_, let vm?) = row, vm.spec.disks.contains(where: { $0.image == name }) else {
                        continue
                    }
                    // One with that name may have begun before its tenant had an image of its own.
                    if tenant.isEmpty || vm.tenant == tenant { return done(.success(vm)) }
                }
                findUser(of: name, tenant, next == nil ? cells.dropFirst() : cells, after: next, done)
            }
        }
    }

    // MARK: VMs

    /// Why a VM can't begin with what its disks name.
    func imageProblem(_ spec: VMDescription, _ tenant: String, before: VMDescription? = nil) -> Problem? {
        for disk in spec.disks where !disk.image.isEmpty {
            let field = "disks.\(disk.name).image"
            if disk.image.hasPrefix(CatalogueName.prefix) {
                return Problem(
                    .invalid, "names begin with \(CatalogueName.prefix) on hosts alone; use the image's own name",
                    field: field)
            }
            guard let image = agent.view.image(disk.image, for: tenant) else { continue }
            if image.isLeaving, before?.disks.contains(disk) != true {
                return Problem(.notPossible, "the image \(disk.image) is being removed; use another one", field: field)
            }
            if Int64(clamping: image.size >> 20) > disk.sizeMiB {
                return Problem(
                    .invalid, "the image \(disk.image) has \(image.size >> 20) MiB; make the disk as large",
                    field: field)
            }
        }
        return nil
    }
}
