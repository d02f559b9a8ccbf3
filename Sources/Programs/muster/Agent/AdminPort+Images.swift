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
            answer(asker, ofRoot(AdminResponse(Listing(seen.map(info)))))
        }
    }

    func showImage(_ name: String, _ tenant: String, _ asker: FleetAsker) {
        agent.refreshView { [self] problem in
            if let problem { return fail(asker, problem) }
            guard let image = agent.view.image(name, for: tenant) else {
                return fail(asker, Problem(RootRefusal.unknownImage(name)))
            }
            answer(asker, ofRoot(AdminResponse(info(image))))
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
            answer(asker, ofRoot(AdminResponse(ImageProgress(received: Int64(clamping: seen.size)))))
        }
    }

    private func takeImagePart(_ part: ImagePart, _ asker: FleetAsker) {
        agent.images.append(upload(part.tenant, part.digest), part.bytes, at: part.offset) { [self] result in
            switch result {
            case .success(let content): answer(asker, AdminResponse(ImageProgress(received: content.size)))
            case .failure(let failure): fail(asker, Problem(.notPossible, failure.description))
            }
        }
    }

    private func upload(_ tenant: String, _ digest: String) -> ImageFiles.Upload {
        ImageFiles.Upload(tenant: tenant, digest: digest)
    }

    /// An image with these bytes that the asker may see, or the tenant that it asks for, and that somebody has who can be
    /// reached from here: bytes that are lost come again from whoever has them. That there is
    /// one which neither may see is not told, and proves nothing: who knows a hash need not know the bytes.
    private func seen(_ digest: String, for tenant: String, _ asker: FleetAsker) -> RootImage? {
        agent.view.images.first { image in
            image.digest == digest && !image.isLeaving && agent.canBeHad(image)
                && (image.tenant.isEmpty || image.tenant == tenant || asker.reaches(image.tenant))
        }
    }

    func addImage(_ wanted: ImageCreation, _ asker: FleetAsker) {
        if let problem = agent.problem(wanting: FeatureLevel.images) { return fail(asker, problem) }
        agent.refreshView { [self] problem in
            if let problem { return fail(asker, problem) }
            if let seen = seen(wanted.digest, for: wanted.tenant, asker) {
                var image = seen
                image.holders = agent.liveHolders(seen)
                return name(wanted, image, asker)
            }
            agent.images.complete(upload(wanted.tenant, wanted.digest)) { [self] result in
                switch result {
                case .success(let content):
                    var image = RootImage(
                        tenant: wanted.tenant, name: wanted.name, sha256: [UInt8](hexadecimal: wanted.digest) ?? [],
                        size: UInt64(clamping: content.size), holders: [agent.node])
                    image.guestBytes = content.head?.guestBytes ?? 0
                    image.isQCOW2 = content.head?.isQCOW2 ?? false
                    name(wanted, image, asker)
                case .failure(let failure): fail(asker, Problem(.notPossible, failure.description))
                }
            }
        }
    }

    private func name(_ wanted: ImageCreation, _ like: RootImage, _ asker: FleetAsker) {
        var image = RootImage(
            tenant: wanted.tenant, name: wanted.name, sha256: like.sha256, size: like.size, holders: like.holders)
        (image.guestBytes, image.isQCOW2) = (like.guestBytes, like.isQCOW2)
        agent.change(.addImage(image), request: asker.request(), by: asker.by) { [self] result in
            if case .failure(let problem) = result { return fail(asker, problem) }
            agent.refreshView { [self] problem in
                if let problem { return fail(asker, problem) }
                let made = agent.view.images.first { $0.tenant == wanted.tenant && $0.name == wanted.name }
                answer(asker, ofRoot(AdminResponse(info(made ?? image), status: 201)))
            }
        }
    }

    // MARK: Removing

    /// From when it is leaving, nobody who knows that lets a VM in that names it; then every cell is told, and takes none from
    /// who does not know; then all cells are asked whether a VM names it.
    func removeImage(_ name: String, _ tenant: String, _ asker: FleetAsker) {
        agent.change(.removeImage(tenant: tenant, name: name, .begin, removal: 0), by: asker.by) { [self] result in
            guard case .success(let begun) = result else {
                if case .failure(let problem) = result { fail(asker, problem) }
                return
            }
            let until = agent.loop.now + AdminPort.removalPatience
            let removal = begun.revision
            // A cell that came meanwhile is among them; of one that comes later everybody hears later than of the removal.
            agent.refreshView { [self] problem in
                if let problem { return keepImage(name, tenant, removal.rawValue, asker, problem) }
                let groups = cells.map(\.group)
                release(name, tenant, removal.index, groups[...], asker) { [self] problem in
                    if let problem { return keepImage(name, tenant, removal.rawValue, asker, problem) }
                    findUser(of: name, tenant, groups[...], after: nil) { [self] found in
                        remove(name, tenant, removal.rawValue, until, found, asker)
                    }
                }
            }
        }
    }

    /// Shorter than the time after which the root's leader takes a removal for forgotten, and calls it off.
    private static let removalPatience = Nanoseconds.seconds(100)

    private func release(
        _ name: String, _ tenant: String, _ at: LogIndex, _ cells: ArraySlice<GroupID>, _ asker: FleetAsker,
        _ done: @escaping (Problem?) -> Void
    ) {
        guard let cell = cells.first else { return done(nil) }
        command(.releaseImage(tenant: tenant, name: name, at: at), .once(), cell, asker) { [self] result in
            switch result {
            case .failure(let problem): done(problem)
            case .success(let result):
                if case .refused(let refusal) = result.outcome { return done(Problem(refusal)) }
                release(name, tenant, at, cells.dropFirst(), asker, done)
            }
        }
    }

    private func remove(
        _ name: String, _ tenant: String, _ removal: UInt64, _ until: Instant, _ found: Result<CellVM?, Problem>,
        _ asker: FleetAsker
    ) {
        switch found {
        case .failure(let problem): return keepImage(name, tenant, removal, asker, problem)
        case .success(let vm?):
            let whose = vm.tenant == defaultTenant ? vm.name : "\(vm.tenant)/\(vm.name)"
            let problem = Problem(
                .notPossible, "a disk of VM \(whose) begins with the image \(name); delete the VM first")
            return keepImage(name, tenant, removal, asker, problem)
        case .success(nil): break
        }
        guard agent.loop.now < until else {
            let problem = Problem(.unavailable, "looking at all VMs took too long; remove the image again")
            return keepImage(name, tenant, removal, asker, problem)
        }
        agent.change(.removeImage(tenant: tenant, name: name, .finish, removal: removal), by: asker.by) { [self] in
            switch $0 {
            case .failure(let problem): fail(asker, problem)
            case .success(let done):
                let said = Acceptance("the image \(name) is removed")
                answer(asker, AdminResponse(json: said.json, index: done.revision.index))
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

    /// Of those that name an image which nobody has: why they are not made, by their places. On hosts with guests an image may also be
    /// a file of the host's own, of which nobody else knows; the simulated driver has no files.
    func withImages(
        _ creations: [VMCreation?], _ cells: [GroupID], _ asker: FleetAsker,
        _ body: @escaping (_ unknown: [(at: Int, problem: Problem)]) -> Void
    ) {
        guard agent.problem(wanting: FeatureLevel.images) == nil, !unknownImages(creations).isEmpty else {
            return body([])
        }
        agent.refreshView { [self] problem in
            let unknown = unknownImages(creations)
            if problem != nil || unknown.isEmpty { return body([]) }
            areSimulated(cells[...], after: nil, isAny: false) { body($0 ? unknown : []) }
        }
    }

    func unknownImages(_ creations: [VMCreation?]) -> [(at: Int, problem: Problem)] {
        creations.enumerated().compactMap { at, creation in
            guard let creation else { return nil }
            for disk in creation.spec.disks where !disk.image.isEmpty {
                if agent.view.image(disk.image, for: creation.tenant) != nil { continue }
                return (
                    at,
                    Problem(
                        .invalid,
                        "there is no image \(disk.image); add it with `muster image add`, or see `muster image list`",
                        field: "disks.\(disk.name).image")
                )
            }
            return nil
        }
    }

    /// Whether all hosts there are have the simulated driver.
    private func areSimulated(
        _ cells: ArraySlice<GroupID>, after: [UInt8]?, isAny: Bool, _ done: @escaping (Bool) -> Void
    ) {
        guard let cell = cells.first else { return done(isAny) }
        read(.list(.hosts, after: after, limit: 0), .stale(within: .seconds(10)), cell) { [self] result in
            // What is not known speaks against nobody.
            guard case .success(let found) = result else { return done(false) }
            let (rows, next) = AdminPort.rows(found.answer)
            var isAny = isAny
            for case .host(_, let host?) in rows where host.health != .removed {
                if host.about.driver != "simulated" { return done(false) }
                isAny = true
            }
            areSimulated(next == nil ? cells.dropFirst() : cells, after: next, isAny: isAny, done)
        }
    }

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
            if image.diskMiB > disk.sizeMiB, before?.disks.contains(disk) != true {
                return Problem(
                    .invalid,
                    "the image \(disk.image) is a disk of \(image.diskMiB) MiB, and the disk \(disk.name) has "
                        + "\(disk.sizeMiB) MiB; make it at least as large", field: "disks.\(disk.name).sizeMiB")
            }
        }
        return nil
    }
}
