import ClusterBase
import FleetModel
import Hypervisor
import NodePorts
import PeerTransport
import Reactor

/// Guests' memory over the connections between agents.
final class HostCarrier: MemoryCarrier {
    /// Set before the first turn.
    weak var network: PeerNetwork?
    private let loop: EventLoop
    private let log: AgentLog

    init(_ loop: EventLoop, _ log: AgentLog) {
        self.loop = loop
        self.log = log
    }

    private var peers: PeerNetwork {
        guard let network else { preconditionFailure("a guest moves before this node has a network, or after") }
        return network
    }

    func send(
        _ part: GuestPart, of vm: VMID, epoch: UInt64, to host: HostID, path: String,
        _ hear: @escaping (MemoryNews) -> Void
    ) -> any MemoryStream {
        let began = loop.now
        var carried: () -> UInt64 = { 0 }
        let stream = peers.sendStream(
            StreamName(part, of: vm, epoch), to: NodeID(host.rawValue), listeningAt: path
        ) { [loop, log] event in
            if event == .taken {
                log.info(
                    "a VM's memory was sent",
                    [
                        "vm": "\(vm)", "host": "\(host)", "bytes": "\(carried())",
                        "milliseconds": "\((loop.now - began).milliseconds)",
                    ])
            }
            hear(MemoryNews(event))
        }
        carried = { [weak stream] in stream?.bytesCarried ?? 0 }
        return stream
    }

    func receive(
        _ part: GuestPart, of vm: VMID, epoch: UInt64, from host: HostID, path: String,
        _ hear: @escaping (MemoryNews) -> Void
    ) -> any MemoryStream {
        peers.receiveStream(
            StreamName(part, of: vm, epoch), from: NodeID(host.rawValue), connectingTo: path
        ) { hear(MemoryNews($0)) }
    }
}

extension PeerStream: MemoryStream {}

extension StreamName {
    fileprivate init(_ part: GuestPart, of vm: VMID, _ epoch: UInt64) {
        self.init(vm: vm.rawValue, epoch: epoch)
        if case .disk(let number) = part { disk = UInt32(clamping: number + 1) }
    }
}

extension MemoryNews {
    fileprivate init(_ event: StreamEvent) {
        self =
            switch event {
            case .open: .open
            case .taken: .taken
            case .ended(let why): .ended(why)
            }
    }
}
