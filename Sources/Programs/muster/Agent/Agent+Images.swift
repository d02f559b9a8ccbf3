import AdminAPI
import AgentConfig
import BinaryCoding
import ClusterBase
import Controllers
import FleetModel
import Hypervisor
import NodePorts
import NodeRuntime
import PeerTransport
import RaftCore
import Reactor
import Schema
import TLSSession

// Images on this node. The root has the catalogue, which every node follows; three voters of the root keep each image for the
// others, and a host pulls what its VMs begin with. Bytes go over the connections for bulk, at their rate.

extension Agent {
    /// Nodes that are to keep each image.
    private static let copiesWanted = 3

    static func makeImages(
        _ settings: AgentSettings, _ node: NodeID, _ loop: EventLoop, _ log: AgentLog
    ) throws(AgentFailure) -> ImageStore {
        try ImageStore(
            imageFolder(settings), bytesMax: Int64(settings.imageCacheBytes), node: node, loop, log)
    }

    static func imageFolder(_ settings: AgentSettings) -> String { settings.dataDirectory + "/images" }

    func connectImages() {
        images.network = network
        images.isSpaceLow = { [unowned self] in isSpaceLow }
        images.pinned = { [unowned self] in pinnedImages }
        images.ask = { [unowned self] other, sha256, offset, number, done in
            let question = NodeRequest.SendImage(sha256: sha256, offset: offset, number: number)
            ask(other, .sendImage(question)) { answer in
                done(answer.map { $0.refusal.isEmpty ? nil : $0.refusal } ?? "it does not answer")
            }
        }
    }

    func sendImageAnswer(_ request: PeerQuestion, _ wanted: NodeRequest.SendImage) -> NodeAnswer {
        guard view.node(request.node).map({ $0.state != .removed }) ?? false,
            let image = view.images.first(where: { $0.sha256 == wanted.sha256 }), wanted.offset <= image.size
        else { return NodeAnswer(version: 1, refusal: "no image has this hash, or not so many bytes") }
        let refusal = images.send(image.digest, from: wanted.offset, number: wanted.number, to: request.node)
        return NodeAnswer(version: 1, refusal: refusal ?? "")
    }

    /// What disks of this host rest on, what its VMs begin with next, and what this node keeps for the others: by content, since a
    /// name may mean other bytes by now than when a VM began.
    private var pinnedImages: Set<String> {
        var pinned = Set(view.images.filter { $0.holders.contains(node) }.map(\.digest))
        pinned.formUnion(host.held.images)
        if let machines = host.driver as? QEMUHypervisor { pinned.formUnion(machines.imagesInUse) }
        for vm in host.keeper.known { pinned.formUnion(imageDigests(of: vm).values) }
        return pinned
    }

    func liveHolders(_ image: RootImage) -> [NodeID] {
        image.holders.filter { view.node($0).map { $0.state != .removed } ?? false }
    }

    /// Whether its bytes can be had at all.
    func canBeHad(_ image: RootImage) -> Bool {
        liveHolders(image).contains { $0 == node ? images.has(image) : isHeard($0) }
    }

    /// Root voters keep copies until there are enough, and look at those they keep.
    func tendImages() {
        if view.images.isEmpty && images.isIdle { return }
        images.forget(but: Set(view.images.map(\.digest)))
        keepForgotten()
        for image in view.images where !image.isLeaving {
            let holders = liveHolders(image)
            if holders.contains(node) {
                keepsGood(image, holders)
                continue
            }
            guard holders.count < Agent.copiesWanted, holdsCopies, !holding.contains(image.digest) else { continue }
            guard images.want(image, holders: holders) == .ready else { continue }
            holding.insert(image.digest)
            let hold = RootCommand.Operation.holdImage(
                tenant: image.tenant, name: image.name, sha256: image.sha256, node, isHeld: true)
            change(hold, by: settings.nodeName) { [self] _ in holding.remove(image.digest) }
        }
    }

    /// Images whose removers went away in the midst of it stay, and may be named again.
    private func keepForgotten() {
        guard leads(.root) else { return removals.forget() }
        for operation in removals.step(view.images, now: loop.now) {
            change(operation, by: settings.nodeName) { [self] result in
                guard case .success = result, case .removeImage(_, let name, _, _) = operation else { return }
                log.warning("an image stays: whoever removed it did not end that", ["image": name])
            }
        }
    }

    /// A copy that is damaged or gone is pulled again where another node has one; where none has, people must know. Who has
    /// none is no keeper: the root says so, and takes the bytes from whoever has them.
    private func keepsGood(_ image: RootImage, _ holders: [NodeID]) {
        guard case .failed(let reason) = images.want(image, holders: holders, isUse: false) else { return }
        if !images.has(image), holding.insert(image.digest).inserted {
            let lost = RootCommand.Operation.holdImage(
                tenant: image.tenant, name: image.name, sha256: image.sha256, node, isHeld: false)
            change(lost, by: settings.nodeName) { [self] _ in holding.remove(image.digest) }
        }
        if holders.count == 1, toldLost.insert(image.digest).inserted {
            log.error("the only copy of an image is gone: add it again", ["image": image.name, "reason": reason])
        }
    }

    private var holdsCopies: Bool {
        view.placement(.root)?.replica(on: node).map { $0.part == .voter && !$0.isLeaving } ?? false
    }

    /// What a VM's disks begin with that the catalogue has, by its name; the rest are files of the host's own.
    func imageDigests(of vm: CellVM) -> [String: String] {
        var digests: [String: String] = [:]
        for disk in vm.spec.disks where !disk.image.isEmpty {
            if let image = view.image(disk.image, for: vm.tenant) { digests[disk.image] = image.digest }
        }
        return digests
    }

    /// How long a VM waits for the root to say what is in the catalogue now; a cell that is cut off from it goes by what it knows.
    private static let lookupMax = Nanoseconds.seconds(1)

    /// Has the catalogue looked at as it is now for VMs that begin with what is not in it here: once for all that are new.
    func lookUpImages() {
        let vms = host.held.takeLookups()
        if vms.isEmpty { return }
        refreshView(within: Agent.lookupMax) { [self] _ in
            for vm in vms { host.held.looked(vm) { imageDigests(of: $0) } }
        }
    }

    /// Sees to the images that orders of this host wait for.
    func fetchImages() {
        for (vm, digest) in host.held.imagesWanted(now: loop.now) {
            guard let image = view.images.first(where: { $0.digest == digest }) else {
                tellUnready(vm, "an image of it is in the catalogue no more", isFinal: true)
                continue
            }
            switch images.want(image, holders: liveHolders(image)) {
            case .ready:
                host.held.imageIsReady(vm, digest)
                tellWait(vm, "its image \(image.name) is here; it begins")
            case .pending:
                host.held.imageIsComing(vm, now: loop.now)
                tellWait(vm, waitText(image))
            case .failed(let reason):
                tellWait(vm, "waits for its image: \(reason)")
                tellUnready(vm, reason, isFinal: false)
            }
        }
    }

    private func waitText(_ image: RootImage) -> String {
        guard let (from, received) = images.progress(image.digest) else {
            return "waits for the image \(image.name), whose bytes are looked at, or which waits for others to come"
        }
        let percent = image.size == 0 ? 0 : UInt64(clamping: received) * 100 / image.size
        return "waits for the image \(image.name): \(percent) % of \(max(1, image.size >> 20)) MiB have come from "
            + name(of: from)
    }

    /// What the cell says of a VM that waits here, for people.
    private func tellWait(_ vm: VMID, _ text: String) {
        if let report = host.held.wait(vm, text, now: loop.now) { host.inputs.append(.news(.state(report))) }
    }

    func tellUnready(_ vm: VMID, _ reason: String, isFinal: Bool) {
        switch host.held.failed(vm, reason, isFinal: isFinal, now: loop.now) {
        case .waiting: break
        case .passed: log.warning("a change of a VM is not in force here", ["vm": "\(vm)", "reason": reason])
        case .ended(let news):
            log.warning("a VM could not be made ready", ["vm": "\(vm)", "reason": reason])
            host.inputs.append(.news(news))
        }
    }
}
