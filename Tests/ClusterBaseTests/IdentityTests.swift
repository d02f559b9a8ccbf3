import ClusterBase
import Testing

@Suite struct IdentityTests {
    @Test func `the index before zero is zero, and distances may be negative`() {
        #expect(LogIndex.zero.previous == .zero)
        #expect(LogIndex(5).previous == LogIndex(4))
        #expect(LogIndex(5).next == LogIndex(6))
        #expect(LogIndex(5) - LogIndex(7) == -2)
        #expect(LogIndex(5).advanced(by: -5) == .zero)
    }

    @Test func `identities order by their number and print it`() {
        #expect(Term(9) < Term(10))
        #expect([NodeID(3), NodeID(1), NodeID(2)].sorted() == [NodeID(1), NodeID(2), NodeID(3)])
        #expect(ReplicaID(17).description == "17")
        #expect(Term.zero.next == Term(1))
        #expect(Epoch.zero.next == Epoch(1))
    }

    @Test func `a term or an index that would wrap around ends the process`() async {
        await #expect(processExitsWith: .failure) {
            _ = Term(.max).next
        }
        await #expect(processExitsWith: .failure) {
            _ = LogIndex(3).advanced(by: -4)
        }
    }
}
