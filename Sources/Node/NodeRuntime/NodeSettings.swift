package import ClusterBase
package import RaftCore

#if MUTANTS
package import FleetModel
#else
import FleetModel
#endif

/// The bounds and times of a node. Each says what happens when it is reached.
package struct NodeSettings: Sendable {
    package var raft = Settings()
    package var liveness = LivenessSettings()
    /// Commands waiting per group for the next entry; more are answered `overloaded`.
    package var commandsQueuedMax = 8_192
    /// One entry packs at most this many commands, or this many bytes of them, and at least one.
    package var packCommandsMax = 256
    package var packBytesMax = 64 << 10
    /// Commands appended here whose entry is not applied yet; more are answered `overloaded`.
    package var commandsUnderWayMax = 65_536
    /// Recent entries that all replicas of this node together keep in memory; each has an equal share, and `cacheBytesMin` at least.
    package var cachesBytesMax = 256 << 20
    package var cacheBytesMin = 64 << 10
    /// Entries of all groups that this node leads which are appended and not committed; beyond it commands are `overloaded`.
    package var uncommittedBytesMax = 256 << 20
    /// Entries read at once when the state machine catches up from the disk.
    package var replayBytesMax = 1 << 20
    /// The applied state is made durable after this many entries, this many bytes of them, or this long, so that the log can
    /// be cut.
    package var flushEntries: UInt64 = 10_000
    package var flushBytes = 64 << 20
    package var flushInterval = Nanoseconds.seconds(30)
    /// Entries kept below the durable state for followers that were away for a while, and the bytes that they may take.
    package var trailingEntries: UInt64 = 10_000
    package var trailingBytesMax = 128 << 20
    /// The log is cut only when it saves this much of either.
    package var cutEntriesMin: UInt64 = 10_000
    package var cutBytesMin = 16 << 20
    /// A log write under way for this long means that the disk stalls, whatever it is used to: the node leads nothing until it
    /// ends. On a disk that is quick otherwise less is enough, down to a quarter.
    package var storageStallMax = Nanoseconds.seconds(1)
    /// A node that leads and has written nothing for this long writes an empty batch, so that a frozen disk shows before a
    /// client waits for it; nil for never.
    package var storagePulseInterval: Nanoseconds?
    package var snapshotPieceBytesMax = 256 << 10
    /// Pieces of one snapshot under way without an answer.
    package var snapshotWindow: UInt64 = 4
    /// Snapshots sent by this node at once; more followers wait.
    package var snapshotsOutgoingMax = 2
    /// No progress for this long ends a transfer on either side.
    package var snapshotTimeout = Nanoseconds.seconds(10)
    package var snapshotRetry = Nanoseconds.milliseconds(200)

    /// Whether a request that this node can't answer alone goes to a node that can; otherwise it is refused with a hint.
    package var forwardsRequests = false
    /// Own clients' requests at other nodes or waiting for one, and their bytes; more are answered `overloaded`.
    package var forwardsMax = 4_096
    package var forwardBytesMax = 16 << 20
    /// Requests answered for other nodes at once; more are answered `overloaded`.
    package var servedMax = 16_384
    /// One frame carries about this many bytes of requests and answers.
    package var forwardFrameBytesMax = 1 << 20
    /// After this long a forwarded command is answered `unknown`, and what was never sent, or only read, `unavailable`.
    package var forwardTimeout = Nanoseconds.seconds(5)
    /// A query that gets no answer for this long is asked elsewhere.
    package var forwardQueryRetry = Nanoseconds.milliseconds(500)
    /// How long a request waits before it looks for a leader again.
    package var forwardWait = Nanoseconds.milliseconds(10)
    /// A request is for no group any more after this many nodes that know of none.
    package var forwardHopsMax: UInt32 = 64
    /// A node whose frames come further apart than this was away.
    package var contactGap = Nanoseconds.seconds(5)

    /// Whether this node follows the root and runs the controllers that are its to run; wants `forwardsRequests`.
    package var runsControllers = false
    /// How often the root is asked for changes when there were none.
    package var rootFollowInterval = Nanoseconds.milliseconds(500)
    /// A node with a replica of the root asks when that has moved on, and anyway after this long.
    package var rootFollowIdleMax = Nanoseconds.seconds(5)
    /// How often controllers plan while something is under way, and when nothing is.
    package var controllerInterval = Nanoseconds.seconds(1)
    package var controllerIdleInterval = Nanoseconds.seconds(5)
    /// How often the root's time is noted while replicas are waited for.
    package var rootTimeInterval = Nanoseconds.seconds(30)

    /// Between reports of a cell's room to the root.
    package var cellReportInterval = Nanoseconds.seconds(2)
    /// Between two looks at the round trips to other regions: while some are not known, and when all are.
    package var latencyInterval = Nanoseconds.seconds(10)
    package var latencyIdleInterval = Nanoseconds.seconds(600)
    /// Between looks of a cell's controller at its balance.
    package var rebalanceInterval = Nanoseconds.seconds(60)
    /// Between looks at what a loss would cost a cell; there is none while nothing at all happens at the node.
    package var exposureInterval = Nanoseconds.seconds(1)
    /// Between attempts to bring loans of quotas to their end.
    package var loanInterval = Nanoseconds.seconds(2)
    /// Between looks at VMs on their way to other cells, where nothing was heard of them.
    package var moveInterval = Nanoseconds.milliseconds(500)
    /// The feature level that this node's program knows. One below `FeatureLevel.newest` makes it act like an older program.
    package var level: UInt32 = FeatureLevel.newest

    #if MUTANTS
    package var fleetMutant: FleetMutant?
    package var upgradeMutant: UpgradeMutant?
    #endif

    /// What the entries of each of `count` replicas may take in memory.
    package func cacheShare(of count: Int) -> Int {
        min(raft.cacheBytesMax, max(cacheBytesMin, cachesBytesMax / max(1, count)))
    }

    package init() {}
}
