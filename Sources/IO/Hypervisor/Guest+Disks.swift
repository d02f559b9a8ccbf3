internal import AdminAPI
internal import ClusterBase
internal import FleetModel
internal import Glibc
internal import Reactor

// How a guest's disks on its host leave and arrive, beside its memory. The destination makes them empty, and its QEMU serves
// them (NBD); the source's QEMU copies each there while the guest runs, and from then on writes what the guest writes to both.
//
//     source         mirroring ── all are the same ─▶ reaching, marking, copying ── the guest stands still ─▶ settling
//                                                                                                               │
//                    written ◀── the memory's rest ── copying ◀── all are done, and nothing writes any more ────┘
//     destination    serving ── the memory is read in ─▶ serves no more ─▶ syncing ─▶ taken
//
// So the source's disk changes no more from before the guest's last state leaves, and is as good as the destination's until
// the source's copy is thrown away. Whatever breaks before that leaves it where it was, and the guest goes on with it.
extension Guest {
    /// One disk on its way out.
    struct Mirror {
        /// Among the VM's disks.
        var number: Int
        var bytes: Int64
        var bytesCopied: Int64 = 0
        /// What the guest writes is written to both.
        var isSame = false
        /// Nothing writes to it any more.
        var isDone = false
        var stream: (any MemoryStream)?

        static let jobPrefix = "mirror-"
        var job: String { "\(Mirror.jobPrefix)\(number)" }
        /// The destination's disk, as the source's QEMU has it.
        var target: String { "move-\(number)" }
    }

    struct DiskMove {
        // Of the source.
        var mirrors: [Mirror] = []
        /// What comes after the disks.
        var memoryBytes: Int64 = 0
        var bytesLast: Int64 = -1
        var stallsAt = Instant.origin
        /// Under which epoch it goes where.
        var target: UInt64 = 0
        var to = HostID(rawValue: 0)

        // Of the destination.
        var arriving: [(number: Int, stream: any MemoryStream)] = []
        var syncing: GuestWork<DiskStep>?
        /// Its disks here are the VM's.
        var isCommitted = false
    }

    /// Disks of which so long nothing arrives are given up. A QEMU that waits for a destination to answer at all does nothing else.
    static let diskStallMax = Nanoseconds.seconds(10)
    static let diskGreetMax = Nanoseconds.seconds(3)

    // MARK: The source

    /// Its QEMU knows which they are, even if an earlier agent started it.
    func findDisks() {
        line?.execute("query-memory-size-summary") { [unowned self] answer in
            if case .success(let size) = answer { diskMove.memoryBytes = size["base-memory"]?.integer ?? 0 }
        }
        line?.execute("query-named-block-nodes", [JSONMember("flat", .bool(true))]) { [unowned self] answer in
            guard case .mirroring = sending else { return }
            switch answer {
            case .failure(let failure): rollBack(failure.message)
            case .success(let nodes): sendDisks(nodes.elements ?? [])
            }
        }
    }

    private func sendDisks(_ nodes: [JSONValue]) {
        for node in nodes {
            guard let name = node["node-name"]?.text, name.hasPrefix(QEMUMachine.diskPrefix),
                let number = Int(name.dropFirst(QEMUMachine.diskPrefix.count)),
                node["file"]?.text?.hasPrefix(directory.path + "/") == true,
                let bytes = node["image"]?["virtual-size"]?.integer
            else { continue }
            diskMove.mirrors.append(Mirror(number: number, bytes: bytes))
        }
        if diskMove.mirrors.isEmpty { return sendMemory() }
        diskMove.mirrors.sort { $0.number < $1.number }
        let now = driver.loop.now
        // Each waits for its host as long as a stream does, and for its QEMU.
        diskMove.stallsAt = now + Guest.diskStallMax + Guest.diskGreetMax
        wakeAt = now + QEMUHypervisor.progressInterval
        for i in diskMove.mirrors.indices {
            let number = diskMove.mirrors[i].number
            diskMove.mirrors[i].stream = driver.carrier.send(
                .disk(number), of: record.vm, epoch: diskMove.target, to: diskMove.to,
                path: directory.departurePath(ofDisk: number)
            ) { [weak self] in self?.hear($0, ofDisk: number) }
        }
    }

    private func hear(_ news: MemoryNews, ofDisk number: Int) {
        guard let at = diskMove.mirrors.firstIndex(where: { $0.number == number }) else { return }
        switch news {
        case .open:
            guard case .mirroring = sending else { return }
            if let problem = directory.admit(to: directory.departurePath(ofDisk: number)) {
                return mirrorFailed(problem)
            }
            diskMove.stallsAt = driver.loop.now + Guest.diskGreetMax
            wakeAt = diskMove.stallsAt
            mirror(diskMove.mirrors[at])
        case .taken: break
        case .ended(let why):
            diskMove.mirrors[at].stream = nil
            if !diskMove.mirrors[at].isDone { mirrorFailed(why) }
        }
    }

    private func mirror(_ mirror: Mirror) {
        // One that an earlier agent did not come to remove.
        line?.execute("blockdev-del", [JSONMember("node-name", .string(mirror.target))])
        let server = JSONValue.object([
            JSONMember("type", .string("unix")),
            JSONMember("path", .string(directory.departurePath(ofDisk: mirror.number))),
        ])
        line?.execute(
            "blockdev-add",
            [
                JSONMember("driver", .string("nbd")), JSONMember("node-name", .string(mirror.target)),
                JSONMember("server", server), JSONMember("export", .string(QEMUMachine.diskNode(mirror.number))),
                JSONMember("discard", .string("unmap")),
            ]
        ) { [unowned self] answer in
            if case .failure(let failure) = answer { mirrorFailed(failure.message) }
        }
        line?.execute(
            "blockdev-mirror",
            [
                JSONMember("job-id", .string(mirror.job)),
                JSONMember("device", .string(QEMUMachine.diskNode(mirror.number))),
                JSONMember("target", .string(mirror.target)), JSONMember("sync", .string("full")),
                // It comes to an end however much the guest writes.
                JSONMember("copy-mode", .string("write-blocking")),
                // A job that ends while the guest writes corrupts QEMU's memory: see `dropMirrors`.
                JSONMember("on-source-error", .string("stop")), JSONMember("on-target-error", .string("stop")),
            ]
        ) { [unowned self] answer in
            guard case .success = answer else { return mirrorFailed("its disk can't be copied") }
            diskMove.stallsAt = driver.loop.now + Guest.diskStallMax
        }
    }

    private func mirrorFailed(_ why: String) {
        switch sending {
        case .mirroring, .reaching, .marking, .copying, .settling: rollBack(why)
        case .none, .written, .copied, .returning: break
        }
    }

    /// QEMU tells of a disk's job.
    func heardOfDisk(_ event: String, _ data: JSONValue) {
        guard let job = data["device"]?.text, let at = diskMove.mirrors.firstIndex(where: { $0.job == job }) else {
            return
        }
        switch (event, sending) {
        case ("BLOCK_JOB_READY", .mirroring):
            diskMove.mirrors[at].isSame = true
            if diskMove.mirrors.allSatisfy(\.isSame) { sendMemory() }
        case ("BLOCK_JOB_COMPLETED", .settling) where data["error"] == nil && diskMove.mirrors[at].isSame:
            diskMove.mirrors[at].isDone = true
            removeTarget(diskMove.mirrors[at])
        case ("BLOCK_JOB_ERROR", .returning): break
        case ("BLOCK_JOB_ERROR", _): mirrorStands(job, isRead: data["operation"]?.text == "read")
        case ("BLOCK_JOB_COMPLETED", _), ("BLOCK_JOB_CANCELLED", _):
            mirrorFailed("its disk is not copied any more: \(data["error"]?.text ?? "QEMU gave it up")")
        default: break
        }
    }

    /// The job does no more, and is asked why.
    private func mirrorStands(_ job: String, isRead: Bool) {
        line?.execute("query-block-jobs") { [unowned self] answer in
            guard case .success(let jobs) = answer else { return mirrorFailed("its disk can't be copied") }
            let found = jobs.elements?.first { $0["device"]?.text == job }
            let hasNoRoom = !isRead && found?["io-status"]?.text == "nospace"
            let what = isRead ? "its disk can't be read" : "its disk can't be written at the destination"
            mirrorFailed(hasNoRoom ? "the destination has no room left for its disk" : what)
        }
    }

    func askMirrors(_ now: Instant) {
        if now >= diskMove.stallsAt {
            return rollBack("nothing of its disks arrived at the destination for some time")
        }
        wakeAt = min(diskMove.stallsAt, now + QEMUHypervisor.progressInterval)
        line?.execute("query-block-jobs") { [unowned self] answer in
            guard case .mirroring = sending, case .success(let jobs) = answer else { return }
            for job in jobs.elements ?? [] {
                guard let name = job["device"]?.text, let copied = job["offset"]?.integer,
                    let at = diskMove.mirrors.firstIndex(where: { $0.job == name })
                else { continue }
                diskMove.mirrors[at].bytesCopied = min(copied, diskMove.mirrors[at].bytes)
            }
            let sum = diskMove.mirrors.reduce(0) { $0 + $1.bytesCopied }
            if sum != diskMove.bytesLast, diskMove.bytesLast >= 0 || sum > 0 {
                diskMove.stallsAt = max(diskMove.stallsAt, driver.loop.now + Guest.diskStallMax)
            }
            diskMove.bytesLast = sum
            driver.say(self, .copying, progressMillis: progress(disks: sum, memory: 0, of: diskMove.memoryBytes))
        }
    }

    var diskBytes: Int64 { diskMove.mirrors.reduce(0) { $0 + $1.bytes } }

    /// Thousandths of all that is copied, the disks first.
    func progress(disks: Int64, memory: Int64, of total: Int64) -> UInt32 {
        let all = max(1, diskBytes + total)
        // In kibibytes, so that the largest disks don't overflow.
        return UInt32(max(0, min(999, ((disks + memory) >> 10) * 1_000 / max(1, all >> 10))))
    }

    /// The guest stands still, and all that it wrote is in both. True when there is nothing to wait for.
    func settleDisks() -> Bool {
        if diskMove.mirrors.allSatisfy(\.isDone) { return true }
        let now = driver.loop.now
        sending = .settling(until: now + pace.intent.stopMax)
        wakeAt = pace.wake(before: now + pace.intent.stopMax)
        for mirror in diskMove.mirrors {
            line?.execute("block-job-cancel", [JSONMember("device", .string(mirror.job))])
        }
        return false
    }

    private func removeTarget(_ mirror: Mirror) {
        line?.execute("blockdev-del", [JSONMember("node-name", .string(mirror.target))]) { [unowned self] answer in
            guard case .settling = sending else { return }
            if case .failure(let failure) = answer { return rollBack(failure.message) }
            if let at = diskMove.mirrors.firstIndex(where: { $0.number == mirror.number }) {
                diskMove.mirrors[at].stream?.close("it is copied")
                diskMove.mirrors[at].stream = nil
            }
            if diskMove.mirrors.allSatisfy({ $0.isDone && $0.stream == nil }) { finishWriting() }
        }
    }

    /// Takes away what copies disks; false while QEMU still has some of it.
    ///
    /// QEMU frees what a job keeps of the writes under way when the job ends, and does not wait for those that the guest has begun,
    /// which then write to freed memory: in one of four lost connections it ended by that. So a job that fails stands still,
    /// and ends only while the guest does, for some ten milliseconds. Its target is cut off before, and holds nothing up.
    func dropMirrors(_ jobs: JSONValue) -> Bool {
        let left = (jobs.elements ?? []).compactMap { $0["device"]?.text }.filter { $0.hasPrefix(Mirror.jobPrefix) }
        if !left.isEmpty { line?.execute("stop") }
        for job in left {
            line?.execute(
                "block-job-cancel", [JSONMember("device", .string(job)), JSONMember("force", .bool(true))])
        }
        if !left.isEmpty { return false }
        for mirror in diskMove.mirrors {
            line?.execute("blockdev-del", [JSONMember("node-name", .string(mirror.target))])
        }
        diskMove.mirrors = []
        return true
    }

    /// What an earlier agent began ends with it.
    func findMirrors() {
        line?.execute("query-block-jobs") { [unowned self] answer in
            guard case .up = phase, case .none = sending, case .success(let jobs) = answer else { return }
            let names = (jobs.elements ?? []).compactMap { $0["device"]?.text }
            if names.contains(where: { $0.hasPrefix(Mirror.jobPrefix) }) { rollBack("its agent began anew") }
        }
    }

    func closeDisks(_ why: String) {
        for i in diskMove.mirrors.indices {
            diskMove.mirrors[i].stream?.close(why)
            diskMove.mirrors[i].stream = nil
        }
        for disk in diskMove.arriving { disk.stream.close(why) }
        diskMove.arriving = []
    }

    // MARK: The destination

    /// Its QEMU serves its empty disks before anything comes.
    func receiveDisks(from source: HostID) {
        let own = machine?.disks.indices.filter { machine?.disks[$0].isOwn == true } ?? []
        if own.isEmpty { return receiveMemory(from: source) }
        let address = JSONValue.object([
            JSONMember("type", .string("unix")),
            JSONMember("data", .object([JSONMember("path", .string(directory.disksPath))])),
        ])
        func served(_ answer: Result<JSONValue, QMPFailure>) -> Bool {
            guard case .up = phase else { return false }
            guard case .failure(let failure) = answer else { return true }
            fail("its disks can't be received: \(failure.message)", driver.loop.now)
            return false
        }
        line?.execute(
            "nbd-server-start",
            [JSONMember("addr", address), JSONMember("max-connections", .integer(Int64(own.count)))]
        ) { _ = served($0) }
        for number in own {
            let node = QEMUMachine.diskNode(number)
            line?.execute(
                "block-export-add",
                [
                    JSONMember("type", .string("nbd")), JSONMember("id", .string("export-\(number)")),
                    JSONMember("node-name", .string(node)), JSONMember("name", .string(node)),
                    JSONMember("writable", .bool(true)),
                ]
            ) { [unowned self] answer in
                guard served(answer), number == own.last else { return }
                guard directory.isSocket(directory.disksPath) else {
                    return fail("its disks can't be received: \(directory.disksPath) is no socket", driver.loop.now)
                }
                diskMove.arriving = own.map { ($0, receiveDisk($0, from: source)) }
                receiveMemory(from: source)
            }
        }
    }

    private func receiveDisk(_ number: Int, from source: HostID) -> any MemoryStream {
        driver.carrier.receive(
            .disk(number), of: record.vm, epoch: record.epoch, from: source, path: directory.disksPath
        ) { [weak self] news in
            guard let self, case .ended(let why) = news, case .up = phase, !isTaken else { return }
            // The source ends it in good order when the guest stands still, and all but the last of its memory is here.
            if (stream?.bytesCarried ?? 0) == 0 { fail("its disks did not arrive: \(why)", driver.loop.now) }
        }
    }

    /// Its memory is read in, and so its disks are whole: a source that copies no disks is none that can send this guest.
    func takeDisks() {
        if let missing = diskMove.arriving.first(where: { $0.stream.bytesCarried == 0 }) {
            let name = machine?.vm.spec.disks[missing.number].name ?? "\(missing.number)"
            return fail("its disk '\(name)' did not arrive: its source sends no disks", driver.loop.now)
        }
        line?.execute("nbd-server-stop") { [unowned self] answer in
            guard case .up = phase else { return }
            let now = driver.loop.now
            if case .failure(let failure) = answer {
                return fail("its disks are still served: \(failure.message)", now)
            }
            syncOwn()
        }
    }

    /// What arrived on this host is on its disk before it is said to be taken.
    func syncOwn() {
        let now = driver.loop.now
        let disks = (machine?.disks ?? []).filter(\.isOwn).map(\.path)
        let (tpm, path) = (machine?.tpm, directory.path)
        do throws(SystemError) {
            diskMove.syncing = try GuestWork { DiskStep.sync(disks + (tpm?.ownPaths ?? []) + [path]) }
            poll(now)
        } catch {
            fail("its disks can't be synced: \(error)", now)
        }
    }

    /// True while what arrived is on its way to the disk.
    func isSyncing(_ now: Instant) -> Bool {
        guard let work = diskMove.syncing else { return false }
        guard let step = work.value else {
            poll(now)
            return true
        }
        diskMove.syncing = nil
        if case .failed(let text) = step { fail(text, now) } else { taken() }
        return true
    }
}
