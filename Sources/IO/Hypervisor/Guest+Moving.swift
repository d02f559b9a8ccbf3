internal import AdminAPI
internal import ClusterBase
internal import FleetModel
internal import Glibc
internal import Reactor

// How a guest's memory leaves and arrives. The source says `copied` only when its QEMU has written everything and the
// destination's has read in everything and holds it: so after the commit nothing is needed of the source, and before it the
// source goes on whatever breaks.
//
//     none ── send ─▶ mirroring ─▶ reaching ── open ─▶ copying ── QEMU is done ─▶ written ── taken ─▶ copied
//       ▲                              └─▶ marking ──▶───┤                           │                  │
//       └───────────────── returning ◀───────────────────┴── a failure, called off ──┴── called off ────┘
//
// What is before its memory is about its disks on this host: see Guest+Disks.
//
// QEMU's emulator loses a store, sometimes, when the list of written pages is taken while the guest runs: its processor
// asks whether a page is on the list, and stores, with nothing between the two that the taker waits for. The guest then
// goes on with a page of the past, and crashes; on a busy machine in one of fifty moves, and between two QEMUs without
// Muster just as well. So an emulated guest stands still whenever that list is taken: for a moment at the beginning
// (`marking`), and at the end. In between there is one pass over its memory, since a downtime of zero is never in reach
// and asks for no second look; and QEMU waits before the end (`pause-before-switchover`), so that a guest that was let go
// on too late is stopped again. With KVM the processor itself notes what is written.
extension Guest {
    enum Sending {
        case none
        /// Its disks on this host are copied; of a guest without any, a moment.
        case mirroring
        /// The destination is not ready yet.
        case reaching
        /// An emulated guest stands still until its writes are noted.
        case marking
        case copying
        /// The guest stands still, and its disks at the destination become whole.
        case settling(until: Instant)
        /// The guest stands still, and the destination reads the rest.
        case written(until: Instant)
        case copied
        /// Goes on here as soon as QEMU is able to let it. Then it is told why, unless the move was called off.
        case returning(why: String?)
    }

    /// In bytes per second, for QEMU. What the agents' connection takes is less.
    static let bandwidthMax: Int64 = 1 << 32

    /// What a source has for saying why a move failed, before its destination says what that saw of it.
    static let sourceSpeaksMax = Nanoseconds.seconds(5)

    // MARK: The source

    func send(_ target: UInt64, to host: HostID, _ intent: MoveIntent, _ now: Instant) {
        guard case .up = phase, case .none = sending, !record.isArriving else { return sayState() }
        pace = MovePace(intent)
        directory.isCopied = false
        (sending, isTaken, wasPaused) = (.mirroring, false, isPaused)
        diskMove = DiskMove()
        (diskMove.target, diskMove.to) = (target, host)
        findDisks()
        driver.say(self, .copying)
    }

    /// Its disks are the same at both ends.
    func sendMemory() {
        sending = .reaching
        stream = driver.carrier.send(
            .memory, of: record.vm, epoch: diskMove.target, to: diskMove.to, path: directory.departurePath
        ) { [weak self] in self?.hear($0) }
        // Its disks settle at the end, when the guest stands still and before its state leaves.
        setPace(stopsForDisks: !diskMove.mirrors.isEmpty)
    }

    private func hear(_ news: MemoryNews) {
        let now = driver.loop.now
        if news != .open { stream = nil }
        switch (news, sending) {
        case (.open, .reaching):
            sending = isEmulated && !wasPaused ? .marking : .copying
            if let problem = directory.admit(to: directory.departurePath) { return rollBack(problem) }
            if case .marking = sending { line?.execute("stop") }
            line?.execute("migrate", [JSONMember("uri", .string("unix:" + directory.departurePath))]) {
                [unowned self] answer in
                if case .failure(let failure) = answer { rollBack(failure.message) }
            }
            wakeAt = now + QEMUHypervisor.progressInterval
        case (.taken, .copying):
            isTaken = true
            askMigration()
        case (.taken, .written): sayCopied()
        case (.ended(let why), .reaching) where diskMove.mirrors.isEmpty: sendFailed(why)
        case (.ended(let why), .reaching), (.ended(let why), .marking), (.ended(let why), .copying),
            (.ended(let why), .settling), (.ended(let why), .written):
            rollBack(why)
        default: break
        }
    }

    func tend(_ now: Instant) {
        if isSyncing(now) { return }
        if let why = overrun(now) { return rollBack(why) }
        switch sending {
        case .mirroring: askMirrors(now)
        case .settling(let until):
            if now >= until { return rollBack("the destination did not take the rest of its disks in time") }
            wakeAt = pace.wake(before: until)
        case .marking:
            askMigration()
            poll(now)
        case .copying:
            askMigration()
            wakeAt = now + QEMUHypervisor.progressInterval
        case .written(let until):
            if now >= until { return rollBack("the destination did not take all of its memory in time") }
            wakeAt = pace.wake(before: until)
        case .returning: askReturned()
        case .none, .reaching, .copied: break
        }
    }

    private func sendFailed(_ why: String) {
        closeStream(why)
        sending = .none
        driver.say(self, .copyFailed, message: why)
        sayState()
    }

    func askMigration() {
        line?.execute("query-migrate") { [unowned self] answer in
            guard case .success(let migration) = answer, case .up = phase else { return }
            if record.isArriving {
                if migration["status"]?.text == "failed" { fail("its memory did not arrive", driver.loop.now) }
            } else {
                takeMigration(migration)
            }
        }
    }

    private func takeMigration(_ migration: JSONValue) {
        switch (migration["status"]?.text ?? "none", sending) {
        case ("setup", .marking): poll(driver.loop.now)
        case ("active", .marking):
            sending = .copying
            line?.execute("cont")
            wakeAt = driver.loop.now + QEMUHypervisor.progressInterval
        case ("pre-switchover", .marking), ("pre-switchover", .copying): finishWriting()
        case ("setup", .copying), ("active", .copying), ("device", .copying):
            if wakeAt == nil { wakeAt = driver.loop.now + QEMUHypervisor.progressInterval }
            if let pages = migration["ram"]?["dirty-pages-rate"]?.integer { pace.dirtyPages = pages }
            guard let ram = migration["ram"], let total = ram["total"]?.integer, let left = ram["remaining"]?.integer
            else { return }
            pace.begin(driver.loop.now, memoryMiB: total >> 20, driver.settings.bytesPerSecond)
            driver.say(
                self, .copying, progressMillis: progress(disks: diskBytes, memory: total - left, of: max(1, total)))
        case ("completed", .copying):
            driver.looksAtWritesMax = max(
                driver.looksAtWritesMax, migration["ram"]?["dirty-sync-count"]?.integer ?? 0)
            line?.execute("query-status") { [unowned self] in finishCopying($0) }
        case ("failed", .marking), ("failed", .copying), ("cancelled", .marking), ("cancelled", .copying):
            rollBack(migration["error-desc"]?.text ?? "QEMU gave up copying")
        // An earlier agent's.
        case ("setup", .none), ("active", .none), ("pre-switchover", .none), ("device", .none):
            rollBack("its agent began anew")
        case (_, .none): sayState()
        default: break
        }
    }

    /// QEMU has stopped the guest and waits. `stop` is for one that was let go on after that; then the rest may go.
    func finishWriting() {
        line?.execute("stop")
        standStill()
        guard settleDisks() else { return }
        sending = .copying
        line?.execute("migrate-continue", [JSONMember("state", .string("pre-switchover"))])
    }

    /// QEMU says that a migration is completed a moment before it is able to let the guest go on here.
    private func finishCopying(_ answer: Result<JSONValue, QMPFailure>) {
        guard case .up = phase, case .copying = sending, case .success(let status) = answer else { return }
        let now = driver.loop.now
        guard status["status"]?.text == "postmigrate" else { return poll(now) }
        if isTaken { return sayCopied() }
        if stream == nil { return rollBack("its agent began anew") }
        sending = .written(until: now + pace.intent.stopMax)
        wakeAt = pace.wake(before: now + pace.intent.stopMax)
    }

    private func sayCopied() {
        directory.isCopied = true
        guard directory.isCopied else { return rollBack("its directory can't be written to") }
        sending = .copied
        driver.say(self, .copied, progressMillis: 1_000)
    }

    /// An agent before had its memory written. If it may have said so, the cell judges; otherwise nobody has committed.
    func findSent() {
        if directory.isCopied {
            closeStream("its agent began anew")
            sending = .copied
            return driver.say(self, .copied, progressMillis: 1_000)
        }
        if case .none = sending { return rollBack(nil) }
        rollBack("its agent began anew")
    }

    func cancelSend() {
        switch sending {
        case .none: sayState()
        case .reaching where diskMove.mirrors.isEmpty:
            closeStream("the move was called off")
            sending = .none
            sayState()
        case .mirroring, .reaching, .marking, .copying, .settling, .written, .copied: rollBack(nil)
        case .returning: break
        }
    }

    // MARK: Going on at the source

    func rollBack(_ why: String?) {
        closeStream(why ?? "the move was called off")
        directory.isCopied = false
        isTaken = false
        sending = .returning(why: why)
        line?.execute("migrate_cancel")
        askReturned()
    }

    private func askReturned() {
        line?.execute("query-block-jobs") { [unowned self] answer in
            guard case .success(let jobs) = answer, case .returning = sending else { return }
            if dropMirrors(jobs) { askCancelled() } else { poll(driver.loop.now) }
        }
    }

    private func askCancelled() {
        line?.execute("query-migrate") { [unowned self] answer in
            guard case .success(let migration) = answer, case .returning = sending else { return }
            switch migration["status"]?.text {
            case "none", "completed", "failed", "cancelled", nil: break
            // It is not done with it.
            default: return poll(driver.loop.now)
            }
            line?.execute("query-status") { [unowned self] in takeReturned($0) }
        }
    }

    private func takeReturned(_ answer: Result<JSONValue, QMPFailure>) {
        guard case .up = phase, case .returning(let why) = sending, case .success(let status) = answer else { return }
        switch status["status"]?.text {
        case "postmigrate" where !wasPaused, "paused" where !wasPaused:
            line?.execute("cont")
            poll(driver.loop.now)
        case "running", "postmigrate", "paused", "prelaunch", "suspended":
            sending = .none
            if let why { driver.say(self, .copyFailed, message: why) }
            sayState()
        default: poll(driver.loop.now)
        }
    }

    func closeStream(_ why: String) {
        if record.isArriving { noteFed() }
        stream?.close(why)
        stream = nil
        closeDisks(why)
    }

    // MARK: The destination

    /// QEMU listens for it first, then it may come.
    func receiveMemory(from source: HostID) {
        guard stream == nil else { return }
        let path = directory.arrivalPath
        line?.execute("migrate-incoming", [JSONMember("uri", .string("unix:" + path))]) { [unowned self] answer in
            guard case .up = phase else { return }
            if case .failure(let failure) = answer {
                return fail("it can't be received: \(failure.message)", driver.loop.now)
            }
            guard directory.isSocket(path) else {
                return fail("it can't be received: \(path) is no socket", driver.loop.now)
            }
            stream = driver.carrier.receive(
                .memory, of: record.vm, epoch: record.epoch, from: source, path: path
            ) { [weak self] in self?.hearArriving($0) }
        }
    }

    private func hearArriving(_ news: MemoryNews) {
        guard case .ended(let why) = news else { return }
        noteFed()
        stream = nil
        if !isTaken { fail("its memory did not arrive: \(why)", driver.loop.now) }
    }

    /// What its source sends has begun to come: from then on the source hears of every end, and goes on.
    func noteFed() {
        isFed = isFed || (stream?.bytesCarried ?? 0) > 0 || diskMove.arriving.contains { $0.stream.bytesCarried > 0 }
    }

    /// Its move failed, and its source, which knows why or hears it from here, is about to say so to the cell. What comes first is
    /// what the cell keeps: so it waits a while for the cell's word.
    func waitsForSource(_ now: Instant) -> Bool {
        guard record.isArriving, isFed, !isTaken, !diskMove.isCommitted, !isToldToStop else { return false }
        let until = sourceSpeaksUntil ?? now + Guest.sourceSpeaksMax
        sourceSpeaksUntil = until
        if now < until { poll(now) }
        return now < until
    }

    /// All of its memory is read in, and it stands still.
    func arrived() {
        if !diskMove.arriving.isEmpty { return takeDisks() }
        if machine?.tpm?.isOwn == true { syncOwn() } else { taken() }
    }

    func taken() {
        isTaken = true
        stream?.tellTaken()
    }

    /// From here on it is this host's.
    func finishArrival() {
        guard record.isArriving else { return sayState() }
        diskMove.isCommitted = true
        // Before anything of it runs, so that what its TPM is told from now on is kept.
        if !directory.bringTPMHome() {
            return fail("it arrived and can't go on: its directory can't be written to", driver.loop.now)
        }
        // There is no way back from here: it goes on without a network that can't be had, and says so.
        if let problem = joinTaps() { driver.say(self, .starting, message: problem) }
        line?.execute("cont") { [unowned self] answer in
            if case .failure(let failure) = answer {
                fail("it arrived and can't go on: \(failure.message)", driver.loop.now)
            }
        }
    }

    func settleHere() {
        record.isArriving = false
        isTaken = false
        closeStream("it arrived")
        unlink(directory.arrivalPath)
        directory.remove(prefix: GuestTPM.arriving)
        _ = directory.write(record)
        announce()
    }

    /// Tells the bridges' switches where its address is now: they would send to the source until the guest speaks itself.
    private func announce() {
        if directory.taps.isEmpty { return }
        line?.execute(
            "announce-self",
            [
                JSONMember("initial", .integer(20)), JSONMember("max", .integer(500)),
                JSONMember("rounds", .integer(5)),
                JSONMember("step", .integer(100)),
            ])
    }
}
