import ClusterBase
import NodePorts
import NodeRuntime
import RaftCore
import StoreLayout

/// A host of the simulated world: its disks outlive its process, and its clock runs at its own rate.
final class SimulatedNode: WorldPorts {
    unowned let world: Simulation
    let number: Int
    let id: NodeID
    var runtime: NodeEngine<SimulatedNode>?
    /// Counts the starts and ends of the process; what belongs to an earlier life is void.
    var life: UInt32 = 0

    // The disks.
    var logDisk = MemoryStore()
    var state = MemoryStore()
    struct PendingLogWrite {
        var ticket: UInt64
        var writes: [GroupWrite]
        var batch: WriteBatch
        var endsAt: Int64
    }
    var pendingLog = RingBuffer<PendingLogWrite>()
    var diskStalledUntil: Int64 = 0
    var isDiskFull = false
    var failsNextWrite = false
    /// Until its next start every write of applied state fails.
    var failsStateWrites = false
    /// The record of applied state that has rotted, and what it holds since.
    private var rotten: (key: [UInt8], value: [UInt8])?

    // The clock: local = origin + elapsed × (1 + drift).
    let driftPPM: Int64
    private var clockOffset: Int64

    var pausedUntil: Int64 = 0
    var pauses: UInt64 = 0
    /// What came while the process was stopped.
    var postponed: [WorldEvent] = []
    var wakeAt: Int64 = .max
    var wakeStamp: UInt64 = 0
    /// Its process is not to be started again.
    var isDown = false
    /// A turn is under way: its effects are collected by the runtime.
    var isBusy = false

    init(world: Simulation, number: Int, driftPPM: Int64, clockOffset: Int64) {
        self.world = world
        self.number = number
        self.id = NodeID(UInt64(number + 1))
        self.driftPPM = driftPPM
        self.clockOffset = clockOffset
    }

    var isRunning: Bool { runtime != nil }

    func local(_ time: Int64) -> Instant {
        // In two parts, so that it neither overflows nor ever goes back.
        Instant(
            nanoseconds: clockOffset + time + time / 1_000_000 * driftPPM + time % 1_000_000 * driftPPM / 1_000_000)
    }

    /// The true time at which the local clock has reached `instant`, or just after.
    func trueTime(of instant: Instant) -> Int64 {
        if instant.nanoseconds > .max / 4 { return .max }
        let elapsed = instant.nanoseconds - clockOffset
        // The inverse of `local`, rounded up by a step.
        return elapsed / (1_000_000 + driftPPM) * 1_000_000
            + elapsed % (1_000_000 + driftPPM) * 1_000_000 / (1_000_000 + driftPPM) + 2
    }

    func jumpClock(by length: Int64) { clockOffset += length }

    // MARK: Disks

    /// One disk holds both stores, so it is full for both; a broken sector is one store's.
    func setDiskFaults() {
        logDisk.fault = isDiskFull ? .noSpace : .none
        state.fault = isDiskFull ? .noSpace : failsStateWrites ? .writeError : .none
    }

    /// Changes a bit of a record of the applied state, and says whether there was one.
    func rotState(_ random: inout PRNG) -> Bool {
        guard let key = state.rot(&random), let value = state.held(key) else { return false }
        rotten = (key, value)
        return true
    }

    /// Whether the record that has rotted is still there: whoever reads it finds the replica damaged.
    var hasRottenState: Bool {
        guard let rotten else { return false }
        return state.held(rotten.key) == rotten.value
    }

    private var identity: NodeIdentity {
        NodeIdentity(cluster: [UInt8](repeating: 7, count: 16), node: id)
    }

    /// Sets the disks up as the first start of a cluster leaves them.
    func install(group: GroupID, _ configuration: Configuration) {
        do {
            if logDisk.count == 0 { try StoredLog.format(identity, in: &logDisk) }
            // A host without a replica has nothing more on its disk.
            guard let peer = configuration.peer(at: id) else { return }
            try StoredLog.createReplica(group, peer.replica, RestoredLog(firstMembers: configuration), in: &logDisk)
        } catch {
            preconditionFailure("a fresh disk refuses its first write: \(error)")
        }
    }

    /// Everything is gone, as after a broken disk: the node comes back empty.
    func wipe() {
        logDisk = MemoryStore()
        state = MemoryStore()
        rotten = nil
        do {
            // Milliseconds since the world began, as a real node takes those of the calendar.
            let started = Incarnation(UInt64(world.now / 1_000_000))
            try StoredLog.format(identity, after: started, in: &logDisk)
        } catch {
            preconditionFailure("a fresh disk refuses its first write: \(error)")
        }
    }

    func open(_ settings: NodeSettings) throws(DirectoryRefusal) -> OpenedNode {
        try OpenedNode(identity, log: &logDisk, state: &state, settings: settings)
    }

    // MARK: Ports

    func send(_ frame: consuming PeerFrame, to node: NodeID) { world.send(frame, from: self, to: node) }

    func submit(_ writes: [GroupWrite], ticket: UInt64) {
        for checker in world.fleet?.checkers ?? [] { checker.written(writes) }
        let batch = StoredLog.batch(for: writes)
        let started = max(world.now, pendingLog.last?.endsAt ?? 0, diskStalledUntil)
        let endsAt = started + world.diskDelay()
        pendingLog.append(PendingLogWrite(ticket: ticket, writes: writes, batch: batch, endsAt: endsAt))
        world.plan(.logDone, at: endsAt, node: self)
        if writes.contains(where: { $0.write.snapshot != nil }) { world.switching(self, endsAt: endsAt) }
    }

    func entries(
        of group: GroupID, replica: ReplicaID, from: LogIndex, through: LogIndex, bytesMax: Int
    ) throws(StoreError) -> [Entry] {
        try StoredLog.entries(group, from: from, through: through, bytesMax: bytesMax, in: logDisk)
    }

    func flushState(ticket: UInt64) {
        world.plan(.flushDone, at: max(world.now, diskStalledUntil) + world.diskDelay() * 3, node: self, a: ticket)
    }

    func answer(_ ticket: UInt64, _ answer: ClientAnswer) { world.answer(ticket, answer, from: self) }

    func report(_ report: NodeReport) { world.take(report, from: self) }
}
