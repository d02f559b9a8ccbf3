package import ClusterBase

/// How long a supervisor waits before it starts an agent again.
///
/// A quorum may wait for this very agent, so that the first pause is short. An agent that ends again and again waits twice
/// as long each time, up to a second, so that a host with a broken disk has time for other things.
package struct RestartPause: Sendable {
    package static let shortest = Nanoseconds.milliseconds(20)
    package static let longest = Nanoseconds.seconds(1)
    /// An agent that lived for so long began well.
    package static let goodLife = Nanoseconds.seconds(1)

    private var next = RestartPause.shortest

    package init() {}

    /// The pause after a life of this length. Storage that failed or is full is not waited for in a hurry.
    package mutating func after(life: Nanoseconds, storageFailed: Bool) -> Nanoseconds {
        if storageFailed { return RestartPause.longest }
        let pause = life >= RestartPause.goodLife ? RestartPause.shortest : next
        next = min(pause + pause, RestartPause.longest)
        return pause
    }
}
