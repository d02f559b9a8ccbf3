import AdminAPI
import AdminHTTP
import ClusterBase
import CommandSyntax
import FleetModel
import Reactor
import TLSSession
import Terminal

/// `kv watch`: prints a stream of changes, and goes on at the next node where one ends, without a gap and without repeating.
final class KeyWatch {
    /// Without any node for this long it gives up, and says where to go on.
    static let silenceMax = Nanoseconds.seconds(30)

    private let loop: EventLoop
    private let places: [(address: Address, place: SocketAddress)]
    private let context: TLSContext
    private let token: String?
    private let space: String
    private let prefix: [UInt8]
    private let show: (AdminAnswer) -> ExitCode
    /// All that was printed, and all that there was before it.
    private var through: Revision?
    private var rest: [UInt8] = []
    private var isCompacted = false
    private var heardAt: Instant

    private enum End {
        case over(ExitCode)
        case lost(String)
    }

    init(
        _ addresses: [Address], _ context: TLSContext, token: String?, space: String, prefix: [UInt8], from: Revision?,
        _ show: @escaping (AdminAnswer) -> ExitCode
    ) throws {
        loop = try EventLoop()
        let resolver = Resolver(loop)
        defer { resolver.close() }
        var places: [(address: Address, place: SocketAddress)] = []
        var problem = "Watching wants an address; name one with --address."
        for address in addresses {
            switch resolver.places(of: address, within: .seconds(3), on: loop) {
            case .found(let found): places += found.map { (address, $0) }
            case .failed(let sentence): problem = sentence
            }
        }
        self.places = places
        self.context = context
        self.token = token
        self.space = space
        self.prefix = prefix
        self.show = show
        through = from
        heardAt = loop.now
        if places.isEmpty { throw AgentFailure(problem) }
    }

    func run() -> ExitCode {
        var attempt = 0
        var hasBegun = false
        while true {
            let (address, place) = places[attempt % places.count]
            attempt += 1
            switch follow(address, place, &hasBegun) {
            case .over(let code): return code
            case .lost(let why):
                let isSilent = loop.now - heardAt > KeyWatch.silenceMax
                guard isSilent || (!hasBegun && attempt >= places.count) else { break }
                let place = through.map { "; go on with --from \($0)" } ?? ""
                Console.complain("muster: \(why)\(place)")
                return .unavailable
            }
            let next = loop.now + .milliseconds(200)
            while loop.now < next { loop.turn(waitingAtMost: next - loop.now) }
        }
    }

    private func follow(_ address: Address, _ place: SocketAddress, _ hasBegun: inout Bool) -> End {
        var end: End?
        var began = false
        rest = []
        let from = loop.now
        let client = AdminClient(
            loop, to: place, host: address.description, serverName: address.host, context: context, bearerToken: token
        ) { [self] _, event in
            switch event {
            case .piece(let bytes):
                heardAt = loop.now
                print(bytes)
            case .streamBegan(let answer):
                began = true
                heardAt = loop.now
                if through == nil { through = answer.index.map { Revision.end(of: $0) } }
            case .streamEnded:
                // Its line says from where on there is history; what was before is to be listed.
                end = isCompacted ? .over(.refused) : .lost("\(address) has ended the stream")
            case .answer(let answer):
                let isAway = answer.status == 503 || answer.status == 504
                end = isAway ? .lost(answer.problem?.detail ?? "\(address) can't serve") : .over(show(answer))
            case .failed(let failure): end = .lost("\(failure)")
            }
        }
        client.send(AdminCall(.watch(space: space, prefix: prefix, from: through)))
        while end == nil {
            loop.turn(waitingAtMost: .seconds(1))
            // A node that is there says so every few seconds, also when nothing changes.
            if end == nil && loop.now - max(from, heardAt) > KeyWatch.silenceMax {
                end = .lost("\(address) has said nothing for \(KeyWatch.silenceMax.count / 1_000_000_000) s")
            }
        }
        client.close()
        hasBegun = hasBegun || began
        return end ?? .lost("nothing was heard")
    }

    /// Prints whole lines; half a line is asked for again.
    private func print(_ bytes: [UInt8]) {
        rest += bytes
        guard let last = rest.lastIndex(of: UInt8(ascii: "\n")) else { return }
        let lines = rest[...last]
        Console.write(bytes: Array(lines), to: 1)
        for line in lines.split(separator: UInt8(ascii: "\n")) {
            // A line of a newer kind is printed and says nothing here.
            switch try? SpaceJSON.parseLine(line) {
            case .change(let change): through = max(through ?? .zero, change.revision)
            // After the latter the stream ends, and is asked for from there again.
            case .progress(let revision), .overdue(let revision): through = max(through ?? .zero, revision)
            case .compacted: isCompacted = true
            case nil: break
            }
        }
        rest.removeSubrange(...last)
    }
}
