import ClusterBase
import FleetModel
import Hypervisor
import NodePorts
import PeerTransport
import RaftCore
import Reactor
import TLSSession

/// One host's way to the other, over TLS: hosts are the nodes of the same number.
final class TestCarrier: MemoryCarrier {
    let network: PeerNetwork
    private let silence: Silence
    /// The destination's word does not reach the source.
    var losesTaken = false
    private(set) weak var sent: PeerStream?

    /// The network's owner, who has nothing to say.
    private final class Silence: PeerNetworkDelegate {
        func received(_ frame: PeerFrame) {}
        func linkUp(_ node: NodeID, _ facts: LinkFacts) {}
        func linkBroken(_ node: NodeID, _ how: LinkBreak) {}
        func received(_ request: PeerQuestion, _ bytes: [UInt8]) {}
        func answered(_ request: RequestID, _ outcome: RequestOutcome) {}
        func noted(_ note: PeerNote) {}
    }

    private final class Deaf: MemoryStream {
        let stream: PeerStream
        init(_ stream: PeerStream) { self.stream = stream }
        var bytesCarried: UInt64 { stream.bytesCarried }
        func tellTaken() {}
        func close(_ reason: String) { stream.close(reason) }
    }

    private init(_ loop: EventLoop, _ node: UInt64, _ authority: CertificateAuthority) throws {
        let now = SystemClock.wallNanoseconds / 1_000_000_000
        func context(_ side: TLSContext.Side) throws -> TLSContext {
            let key = try PrivateKey.make()
            let certificate = try authority.issue(
                try CertificateRequest(key: key, commonName: "node \(node)"),
                identity: .node(cluster: "test", node: NodeID(node)), now: now)
            return try TLSContext(
                side: side, identity: TLSIdentity(chain: [certificate], key: key),
                trust: .authorities([authority.certificate]), protocols: [PeerNetwork.protocolName])
        }
        silence = Silence()
        network = PeerNetwork(
            loop, settings: PeerSettings(cluster: "test", node: NodeID(node), incarnation: Incarnation(1)),
            server: try context(.server), client: try context(.client), seed: node, delegate: silence,
            judge: { _, _ in .accept })
        network.setBulkRate(1 << 30)
    }

    static func two(_ loop: EventLoop) throws -> [TestCarrier] {
        let authority = try CertificateAuthority.make(
            cluster: "test", now: SystemClock.wallNanoseconds / 1_000_000_000)
        let carriers = try (1...2).map { try TestCarrier(loop, $0, authority) }
        let book = try carriers.enumerated().map { at, carrier in
            let address = try carrier.network.listen(on: .loopback())
            return PeerAddresses(
                node: NodeID(UInt64(at + 1)), addresses: [Address(host: address.host, port: address.port)])
        }
        for carrier in carriers { carrier.network.setPeers(book) }
        return carriers
    }

    func send(
        _ part: GuestPart, of vm: VMID, epoch: UInt64, to host: HostID, path: String,
        _ hear: @escaping (MemoryNews) -> Void
    ) -> any MemoryStream {
        let stream = network.sendStream(
            StreamName(part, of: vm, epoch), to: NodeID(host.rawValue), listeningAt: path
        ) { hear(TestCarrier.news($0)) }
        if part == .memory { sent = stream }
        return stream
    }

    func receive(
        _ part: GuestPart, of vm: VMID, epoch: UInt64, from host: HostID, path: String,
        _ hear: @escaping (MemoryNews) -> Void
    ) -> any MemoryStream {
        let stream = network.receiveStream(
            StreamName(part, of: vm, epoch), from: NodeID(host.rawValue), connectingTo: path
        ) { hear(TestCarrier.news($0)) }
        return losesTaken ? Deaf(stream) : stream
    }

    private static func news(_ event: StreamEvent) -> MemoryNews {
        switch event {
        case .open: .open
        case .taken: .taken
        case .ended(let why): .ended(why)
        }
    }
}

extension PeerStream: MemoryStream {}

extension StreamName {
    fileprivate init(_ part: GuestPart, of vm: VMID, _ epoch: UInt64) {
        self.init(vm: vm.rawValue, epoch: epoch)
        if case .disk(let number) = part { disk = UInt32(clamping: number + 1) }
    }
}
