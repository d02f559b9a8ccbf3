internal import ClusterBase
internal import FleetModel

/// Parses, routes and answers the same small write again and again. The clock is the caller's, since this layer has none.
package struct AdminBench: Sendable {
    private var parser = RequestParser()
    private let router = Router()
    private let request: [UInt8]
    private let date = HTTPDate.bytes(unixSeconds: 0)
    private var out: [UInt8] = []

    /// Writes of 128 bytes, as a load generator sends them.
    package init() {
        let command = SpaceCommand(.put(key: Array("key-0123456789".utf8), value: [UInt8](repeating: 118, count: 128)))
        var bytes: [UInt8] = []
        RequestWriter(host: "localhost:7500").write(AdminCall(.write(space: "bench", command)), into: &bytes)
        request = bytes
    }

    /// Answers `count` requests and returns a hash of their sizes: the same count gives the same number.
    package mutating func run(_ count: Int) -> UInt64 {
        var hash: UInt64 = 0
        for number in 0..<count {
            parser.append(contentsOf: request)
            guard case .request(let head) = parser.next() else {
                preconditionFailure("the request of the benchmark is none")
            }
            let revision = Revision(index: LogIndex(UInt64(number)), slot: number & 255)
            let response: AdminResponse
            do throws(Router.Refusal) {
                _ = try router.call(parser, head)
                response = AdminResponse(SpaceResult(revision: revision, outcome: .written(version: 1)))
            } catch {
                response = error.response
            }
            ResponseWriter.write(response, .init(), date: date, into: &out)
            if out.count > 1 << 16 || number == count - 1 {
                hash = mix64(hash &+ UInt64(out.count) &+ UInt64(out.last ?? 0))
                out.removeAll(keepingCapacity: true)
            }
        }
        return hash
    }
}
