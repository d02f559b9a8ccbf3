public import ClusterBase
package import NodeRuntime
import RaftCore

/// One kind of harm that a run may do to its cluster.
public enum Fault: UInt8, CaseIterable, Sendable {
    /// Of nodes: one ends and starts again, many do at once, one stands still, one loses its disk.
    case crash, restartStorm, pause, wipe
    /// Of the network: halves, a leader alone, one way only, on and off, halves with one node in common, a slow link,
    /// connections that close.
    case partition, isolateLeader, oneWayPartition, flappingPartition, bridge, slowLink, brokenConnection
    /// Of disks: they stand, are full, fail to write, or return other bits than were written.
    case diskStall, diskFull, writeError, bitRot
    /// A node's clock jumps.
    case clockJump
    /// What operators do: members change, leadership is handed over.
    case membership, transfer

    /// Whether a replica may lose what it promised: at most one at a time, until it is replaced.
    var losesData: Bool { self == .wipe || self == .bitRot }
}

/// What one seed draws: which faults there are and how strong, how the network, the disks and the clocks behave, and
/// how tight the bounds of the nodes are. Swarm style: a run has some of everything, and no run has all.
public struct Profile: Sendable {
    /// The size of the cluster.
    public var nodes = 5
    /// Groups of the key space, beside those that hold the fleet.
    public var groups = 1
    /// Clients of the key space, each with one operation under way at a time.
    public var clients = 6
    /// Keys that clients draw from; fewer are fought over more.
    public var keys: UInt64 = 10
    /// Owners who fight over locks of the key space, where programs are of one version and there is no fleet.
    public var lockOwners = 0
    /// The longest time from an answer to the client's next operation.
    public var thinkTimeMax = Nanoseconds.milliseconds(80)
    /// After this a client gives up and counts the outcome as unknown.
    public var operationTimeout = Nanoseconds.seconds(4)
    /// After this a client asks another node.
    public var attemptTimeout = Nanoseconds.milliseconds(700)

    /// One way, between two nodes of a region and of two regions.
    public var latencyNear = Nanoseconds.microseconds(200)
    /// One way, between two nodes of two regions.
    public var latencyFar = Nanoseconds.microseconds(200)
    /// Nodes are dealt out to this many regions.
    public var regions = 1
    /// By how much a latency may be longer, in hundredths of it.
    public var jitterPercent: Int64 = 30
    /// Frames that are lost, of a thousand.
    public var lossPerMille: UInt64 = 0
    /// Frames that come twice, of a thousand.
    public var duplicatePerMille: UInt64 = 0
    /// Frames that come later than one sent after them, of a thousand.
    public var reorderPerMille: UInt64 = 0
    /// A frame's second copy may come this much later.
    public var wanderMax = Nanoseconds.seconds(3)

    /// How long a synced write takes at least; it may take twice as long.
    public var diskLatency = Nanoseconds.microseconds(150)
    /// How much faster or slower than time itself a clock may run, in millionths.
    public var clockDriftPPMMax: Int64 = 50
    /// Whether a node that ends closes its connections, so that others learn of it at once.
    public var resetsConnections = true
    /// A cut link keeps what is sent, and brings it afterwards, as connections do; else it is lost.
    public var holdsBack = false
    /// Every frame goes through its bytes on the way.
    public var encodesFrames = false

    /// What may strike; nothing does when it is empty.
    public var faults: [Fault] = []
    /// The longest time between two strikes.
    public var faultIntervalMax = Nanoseconds.seconds(4)
    /// The longest time that a strike lasts.
    public var faultLengthMax = Nanoseconds.seconds(5)
    /// Courses of events that may strike beside the faults.
    public var plots: [Plot] = []
    /// What the run ends with, beside what chance leaves broken.
    public var ending: Ending?
    /// Hosts with VMs on the nodes; nil for none.
    public var fleet: FleetProfile?
    /// Programs of two versions, which take turns on the nodes.
    public var isMixed = false

    package var settings = NodeSettings()

    public init() {}

    /// Draws a profile. `nodes` bounds the size of the cluster. Without plots it is what the seed drew before there were any.
    public static func draw(_ random: inout PRNG, nodes: ClosedRange<Int>, hasPlots: Bool = true) -> Profile {
        var p = Profile()
        p.nodes = nodes.lowerBound + random.below(nodes.count)
        p.groups = random.chance(1, in: 5) ? 2 + random.below(2) : 1
        p.clients = 2 + random.below(7)
        // Every group has a key, so that every group has somebody to answer.
        p.keys = UInt64(p.groups) + random.below(12)
        p.thinkTimeMax = .milliseconds(random.within(30...300))
        if random.chance(1, in: 20) {
            // Many readers and writers of few keys, one right after the other.
            p.clients = 8 + random.below(3)
            p.keys = UInt64(p.groups)
            p.thinkTimeMax = .milliseconds(random.within(10...40))
        }
        let beat = random.within(15...60)
        p.settings.liveness.beatInterval = .milliseconds(beat)
        p.settings.liveness.suspicionFloor = .milliseconds(beat * 3 + random.within(5...60))
        p.settings.raft.suspicion = p.settings.liveness.suspicionFloor
        p.drawRest(random.child(14), beat)
        p.drawNetwork(&random)
        p.diskLatency = .microseconds(random.chance(1, in: 5) ? random.within(1_000...60_000) : random.within(30...600))
        p.clockDriftPPMMax = random.chance(1, in: 4) ? 100_000 : 100
        p.resetsConnections = !random.chance(1, in: 4)
        p.encodesFrames = random.chance(1, in: 6)
        // One run in sixteen is without faults: there nothing may happen that needs an excuse.
        if !random.chance(1, in: 16) {
            let share = 1 + random.below(UInt64(3))
            for fault in Fault.allCases where random.chance(share, in: 4) { p.faults.append(fault) }
        }
        p.faultIntervalMax = .milliseconds(random.within(300...8_000))
        p.faultLengthMax = .milliseconds(random.within(200...12_000))
        p.settings.storagePulseInterval = p.settings.storageStallMax
        p.drawBounds(&random)
        if hasPlots { p.drawPlots(&random) }
        // From a stream of its own, so that it shifts nothing.
        var locks = random.child(50)
        if !p.faults.isEmpty, locks.chance(1, in: 3) { p.lockOwners = 2 + locks.below(3) }
        var other = random.child(0xC07)
        p.holdsBack = other.chance(1, in: 3)
        if p.nodes >= 3 && !p.faults.isEmpty {
            if other.chance(1, in: 12) {
                p.ending = .disaster
            } else if hasPlots && p.groups == 1 && other.chance(1, in: 8) {
                // To replace all but one or two takes long where there are many.
                let fitting: [Ending] =
                    p.nodes == 3
                    ? [.hungLeader]
                    : p.nodes <= 5
                        ? [.hungLeader, .strangers, .lossAfterChange, .strangers] : [.hungLeader, .lossAfterChange]
                p.ending = fitting[other.below(fitting.count)]
            }
        }
        return p
    }

    /// In one run of three nodes rest, and do so between operations already.
    private mutating func drawRest(_ stream: PRNG, _ beat: Int64) {
        var random = stream
        guard random.chance(1, in: 3) else { return }
        settings.liveness.restInterval = .milliseconds(beat * random.within(2...6))
        settings.liveness.stirredFor = .milliseconds(random.within(10...300))
    }

    private mutating func drawNetwork(_ random: inout PRNG) {
        latencyNear = .microseconds(random.within(30...1_000))
        latencyFar = latencyNear
        if random.chance(1, in: 4) {
            regions = 2 + random.below(2)
            latencyFar = .milliseconds(random.within(5...90))
        }
        jitterPercent = random.within(0...100)
        if random.chance(1, in: 3) { lossPerMille = random.below(UInt64(120)) }
        if random.chance(1, in: 3) { duplicatePerMille = random.below(UInt64(200)) }
        if random.chance(1, in: 3) { reorderPerMille = random.below(UInt64(200)) }
    }

    /// Tight bounds make rare paths common: windows that fill, caches that miss, logs that are cut, small snapshots.
    private mutating func drawBounds(_ random: inout PRNG) {
        if random.chance(1, in: 2) {
            settings.raft.inflightMessagesMax = 1 + random.below(16)
            settings.raft.appendEntriesMax = random.chance(1, in: 3) ? 1 : 1 + random.below(32)
            settings.raft.appendBytesMax = 200 + random.below(8_000)
            settings.raft.inflightBytesMax = 400 + random.below(40_000)
            settings.raft.uncommittedBytesMax = 2_000 + random.below(60_000)
        }
        settings.raft.cacheBytesMax = random.chance(1, in: 2) ? random.below(20_000) : 4 << 20
        settings.raft.promotionStability = .milliseconds(random.within(100...2_000))
        settings.raft.promotionLagMax = 20 + random.below(200)
        settings.packCommandsMax = 1 + random.below(32)
        settings.flushEntries = 20 + random.below(UInt64(600))
        settings.flushInterval = .milliseconds(random.within(500...10_000))
        settings.trailingEntries = random.below(UInt64(200))
        settings.cutEntriesMin = 1 + random.below(UInt64(200))
        settings.snapshotPieceBytesMax = 1_000 + random.below(30_000)
        settings.snapshotWindow = 2 + random.below(UInt64(6))
        settings.snapshotTimeout = .seconds(3)
    }

    /// After all else, so that it shifts nothing.
    private mutating func drawPlots(_ random: inout PRNG) {
        guard !faults.isEmpty, random.chance(1, in: 3) else { return }
        for plot in Plot.allCases where random.chance(1, in: 2) { plots.append(plot) }
        if plots.contains(.deposedLeader) && random.chance(1, in: 2) {
            // What a deposed leader wrote alone is met by a snapshot only where logs are cut at once.
            settings.flushEntries = 2 + random.below(UInt64(20))
            settings.trailingEntries = random.below(UInt64(4))
            settings.cutEntriesMin = 1 + random.below(UInt64(4))
        }
    }
}
