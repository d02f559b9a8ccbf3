import ClusterBase
import Testing

@Suite struct TimeTests {
    @Test func `units convert without loss`() {
        #expect(Nanoseconds.seconds(1) == .milliseconds(1_000))
        #expect(Nanoseconds.milliseconds(1) == .microseconds(1_000))
        #expect(Nanoseconds.microseconds(1) == Nanoseconds(1_000))
        #expect(Nanoseconds(1_999_999).milliseconds == 1)
        #expect(Nanoseconds.seconds(3) / 2 == .milliseconds(1_500))
        #expect(Nanoseconds.seconds(3) * 2 - .seconds(1) == .seconds(5))
    }

    @Test func `a length is written in the largest unit that keeps it whole`() {
        #expect(Nanoseconds.seconds(2).description == "2s")
        #expect(Nanoseconds.milliseconds(1_500).description == "1500ms")
        #expect(Nanoseconds.microseconds(7).description == "7us")
        #expect(Nanoseconds(1).description == "1ns")
        #expect((Instant.origin + .milliseconds(3)).description == "@3ms")
    }

    @Test func `points of time and lengths between them add up`() {
        var now = Instant(nanoseconds: 5)
        let before = now
        now += .seconds(1)
        #expect(now - before == .seconds(1))
        #expect(now - Nanoseconds.seconds(1) == before)
        #expect(before < now)
    }

    @Test func `time that does not fit ends the process instead of wrapping`() async {
        await #expect(processExitsWith: .failure) {
            _ = Nanoseconds(.max) + Nanoseconds(1)
        }
        await #expect(processExitsWith: .failure) {
            _ = Nanoseconds.seconds(.max)
        }
    }
}
