import AllocationCounter
import ClusterBase
import TLSSession
import Testing

@Suite(.enabled(if: allocation_counter_is_active() != 0)) struct HotPathTests {
    /// Sends `rounds` messages of `size` bytes from one side to the other, with buffers that the caller owns.
    static func pump(
        _ from: TLSStream, _ to: TLSStream, _ plain: [UInt8], _ into: inout [UInt8], rounds: Int
    ) throws(TLSFailure) -> Int {
        var total = 0
        var failure: TLSFailure?
        for _ in 0..<rounds {
            try plain.withUnsafeBufferPointer { buffer throws(TLSFailure) in
                try from.write(UnsafeRawBufferPointer(buffer))
            }
            from.withOutput { cipher in
                do throws(TLSFailure) { try to.receive(cipher) } catch { failure = error }
                return cipher.count
            }
            if let failure { throw failure }
            total += try into.withUnsafeMutableBufferPointer { buffer throws(TLSFailure) -> Int in
                try to.read(into: UnsafeMutableRawBufferPointer(buffer))
            }
        }
        return total
    }

    @Test(arguments: [128, 16_384, 100_000])
    func `a session adds no allocation to the four that OpenSSL makes for a record`(size: Int) throws {
        let house = try House()
        var wire = try Wire(
            TLSContext(side: .client, identity: house.node(1), trust: house.trust),
            TLSContext(side: .server, identity: house.node(2), trust: house.trust))
        wire.run()
        let plain = [UInt8](repeating: 7, count: size)
        var into = [UInt8](repeating: 0, count: size)
        _ = try Self.pump(wire.client, wire.server, plain, &into, rounds: 3)
        allocation_counter_begin()
        let total = try Self.pump(wire.client, wire.server, plain, &into, rounds: 100)
        let count = allocation_counter_end()
        #expect(total == 100 * size)
        let records = (size + 16_383) / 16_384
        #expect(count <= 100 * records * 4)
    }
}
