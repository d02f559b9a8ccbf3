import AgentConfig
import ClusterBase
import Testing

@Suite struct RestartPauseTests {
    @Test func `an agent that lived well is started again at once, one that dies young waits ever longer`() {
        var pause = RestartPause()
        #expect(pause.after(life: .seconds(9), storageFailed: false) == .milliseconds(20))
        var waited: [Nanoseconds] = []
        for _ in 0..<8 { waited.append(pause.after(life: .milliseconds(50), storageFailed: false)) }
        #expect(waited.prefix(3) == [.milliseconds(40), .milliseconds(80), .milliseconds(160)])
        #expect(waited.last == .seconds(1))
        #expect(pause.after(life: .seconds(1), storageFailed: false) == .milliseconds(20))
        #expect(pause.after(life: .milliseconds(50), storageFailed: false) == .milliseconds(40))
    }

    @Test func `storage that failed is given a second each time`() {
        var pause = RestartPause()
        for _ in 0..<3 { #expect(pause.after(life: .seconds(60), storageFailed: true) == .seconds(1)) }
        #expect(pause.after(life: .milliseconds(1), storageFailed: false) == .milliseconds(20))
    }
}
