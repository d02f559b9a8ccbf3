import AdminAPI
import ClusterBase
import FleetModel
import Glibc
import NodePorts
import Reactor
import SeedImage

/// One VM's QEMU process, from its images to its end.
final class Guest {
    enum Phase {
        case images
        /// The parent was asked to start it.
        case asking
        case launching(since: Instant)
        case connecting(until: Instant)
        case up
        /// Asked to end; killed at the moment.
        case ending(killAt: Instant)
        case killed
    }

    var record: VMDirectory.Record
    let directory: VMDirectory
    unowned let driver: QEMUHypervisor
    private(set) var phase: Phase
    var wakeAt: Instant?
    var machine: QEMUMachine?
    /// What is to become its machine.
    var wanted: CellVM?
    /// One that was adopted counts as emulated, which is right for both.
    var accelerator = QEMUMachine.Accelerator.tcg
    var isEmulated: Bool { accelerator == .tcg }
    var isStartedPaused = false
    /// Where its memory comes from, if it is received.
    var source: HostID?
    private var machineWork: GuestWork<Result<QEMUMachine, QEMURefusal>>?
    private var diskWork: GuestWork<DiskStep>?
    /// The disk that `diskWork` is about, or the program after it.
    private var diskNow: QEMUMachine.Disk?
    private var imagesLeft: [QEMUMachine.Disk]?
    private var isFirmwareSeenTo = false
    private var isTPMSeenTo = false
    private var isFurnished = false
    private var isHandedOver = false
    /// Whom it is started as.
    var user: GuestUser?
    private var imageChild: HostProcess.Child?
    /// What is still to be run for a disk that is made whole, and where that becomes the disk.
    private var imageSteps: [(program: String, words: [String])] = []
    private var wholeDisk: WholeDisk?
    /// QEMU, if this process is its parent.
    private var child: HostProcess.Child?
    private var tpmChild: HostProcess.Child?
    /// The parent has not answered yet.
    private var isAsking = false
    /// Its parent's word that nothing of it is left.
    private var exitStatus: Int32?
    var pids: [pid_t] = []
    private(set) var line: QMPConnection?
    var isPaused = false
    var sending = Sending.none
    /// How it is sent, and when that is given up.
    var pace = MovePace()
    var probing = Probing()
    let memory = MemoryWatch()
    /// Its disks on their way, in either direction.
    var diskMove = DiskMove()
    /// Its memory on its way, in either direction.
    var stream: (any MemoryStream)?
    /// All of its memory was taken in at the destination.
    var isTaken = false
    /// Some of it has come from its source.
    var isFed = false
    var sourceSpeaksUntil: Instant?
    /// Its owner had paused it before it began to move.
    var wasPaused = false
    private(set) var isToldToStop = false
    var isDiscarded = false
    private(set) var endText: String?
    /// It ended with what it ran on, through no fault of its own.
    var isHostsFault = false
    private(set) var runningSince: Instant?
    var usageLast: (Instant, Int64)?
    private var tapTries = 0
    private static let tapTriesMax = 100

    init(_ record: VMDirectory.Record, _ directory: VMDirectory, _ phase: Phase, _ driver: QEMUHypervisor) {
        self.record = record
        self.directory = directory
        self.phase = phase
        self.driver = driver
        wakeAt = .origin
    }

    // The loop holds a connection that it watches.
    deinit { line?.close() }

    func poll(_ now: Instant) { wakeAt = now + QEMUHypervisor.pollInterval }

    /// It can't run, or runs no more; its process, if there is one, is killed.
    func fail(_ text: String, _ now: Instant) {
        endText = endText ?? text
        kill(now)
    }

    // MARK: Time

    func wake(_ now: Instant) {
        wakeAt = nil
        switch phase {
        case .images: makeImages(now)
        case .asking: break
        case .launching(let since):
            // It listens when its machine is nearly made, and speaks when it is.
            if access(directory.monitorPath, F_OK) == 0 {
                phase = .connecting(until: now + QEMUHypervisor.launchMax)
                connect(now)
            } else if isReaped {
                fail("QEMU did not start: \(complaint)", now)
            } else if now - since > QEMUHypervisor.launchMax {
                fail("QEMU was not ready in time", now)
            } else {
                poll(now)
            }
        case .connecting: connect(now)
        case .up: tend(now)
        case .ending(let killAt):
            if isEnded { return leave(now) }
            if now >= killAt { return kill(now) }
            wakeAt = min(killAt, now + QEMUHypervisor.pollInterval)
        case .killed:
            if isEnded { return leave(now) }
            for pid in pids where exitStatus == nil { HostProcess.kill(pid) }
            poll(now)
        }
    }

    /// The kernel lets go of a process's files a little after its memory.
    private func leave(_ now: Instant) {
        if !directory.removeTaps(), tapTries < Guest.tapTriesMax {
            tapTries += 1
            return poll(now)
        }
        if waitsForSource(now) { return }
        driver.isGone(self)
    }

    private var isReaped: Bool {
        if exitStatus == nil { exitStatus = child?.status() }
        return exitStatus != nil
    }

    var complaint: String { HostProcess.complaint(in: directory.path + "/qemu.log") }

    private var isEnded: Bool {
        if isAsking { return false }
        // What is under way may still change a disk.
        if let diskWork, diskWork.value == nil { return false }
        if let syncing = diskMove.syncing, syncing.value == nil { return false }
        let hasParent = child != nil || (driver.parent?.isUp ?? false && !pids.isEmpty)
        if hasParent {
            guard isReaped else { return false }
            if let exitStatus, exitStatus > 0, !isToldToStop { endText = endText ?? "QEMU ended: \(complaint)" }
        }
        // It ends with the line to QEMU, and soon.
        if let tpmChild, tpmChild.status() == nil { return false }
        tpmChild = nil
        return pids.allSatisfy { !HostProcess.isAlive($0, with: directory.mark) }
    }

    /// Its parent says that it is gone, and why if the parent did it.
    func ended(_ status: Int32, _ cause: String?, _ now: Instant) {
        exitStatus = status
        endText = endText ?? cause.map { $0 + directory.tpmComplaint }
        // What it still said on its line is heard first: the line ends with it.
        poll(now)
    }

    // MARK: Starting

    /// Paths of storage domains and of images are looked at on threads: a storage that hangs holds up its own guests.
    private func makeMachine(_ now: Instant) {
        if let work = machineWork {
            guard let made = work.value else { return poll(now) }
            machineWork = nil
            switch made {
            case .failure(let refusal): return fail("can't start: \(refusal)", now)
            case .success(let made):
                machine = made
                return makeImages(now)
            }
        }
        guard let vm = wanted else { return fail("its machine is not known", now) }
        let (settings, path) = (driver.settings, directory.path)
        do throws(SystemError) {
            machineWork = try GuestWork {
                Result { () throws(QEMURefusal) in try QEMUMachine(vm, settings, directory: path) }
            }
            poll(now)
        } catch {
            fail("can't start: \(error)", now)
        }
    }

    private func work(_ now: Instant, _ body: @escaping @Sendable () -> DiskStep) {
        do throws(SystemError) {
            diskWork = try GuestWork(body)
            poll(now)
        } catch {
            fail("a disk could not be made: \(error)", now)
        }
    }

    private func makeImages(_ now: Instant) {
        guard let machine else { return makeMachine(now) }
        if imagesLeft == nil {
            directory.remove(prefix: "ephemeral-")
            imagesLeft = machine.disks
        }
        if let work = diskWork {
            guard let step = work.value else { return poll(now) }
            diskWork = nil
            switch step {
            case .failed(let text): return fail(text, now)
            case .ready: (wholeDisk, diskNow) = (nil, nil)
            case .wantsImage: return startImage(now)
            }
        }
        if let child = imageChild {
            guard let status = child.status() else { return poll(now) }
            imageChild = nil
            guard status == 0 else {
                giveUpDisk()
                return fail("a disk could not be made: \(child.complaint)", now)
            }
            if !imageSteps.isEmpty { return startImageStep(now) }
            if let whole = wholeDisk {
                return work(now) { whole.publish().map { .failed($0) } ?? .ready }
            }
        }
        if let disk = imagesLeft?.first {
            imagesLeft?.removeFirst()
            diskNow = disk
            let whole = disk.isWhole ? WholeDisk(disk.path, epoch: record.epoch) : nil
            wholeDisk = whole
            let marks = driver.settings.marks
            // What comes is all of it.
            let isEmpty = source != nil && disk.isOwn
            return work(now) { DiskStep.begin(disk, whole, marks, isEmpty: isEmpty) }
        }
        if let firmware = machine.firmware, !isFirmwareSeenTo {
            isFirmwareSeenTo = true
            let isArriving = source != nil
            return work(now) { firmware.make(isArriving: isArriving).map { .failed($0) } ?? .ready }
        }
        if let tpm = machine.tpm, !isTPMSeenTo {
            isTPMSeenTo = true
            let (isArriving, marks) = (source != nil, driver.settings.marks)
            return work(now) { tpm.make(isArriving: isArriving, marks).map { .failed($0) } ?? .ready }
        }
        if !isFurnished {
            isFurnished = true
            if let problem = directory.makeOutput() {
                return fail("its console's log could not be made: \(problem)", now)
            }
            if let problem = makeSeed(machine) ?? makeTaps(machine) { return fail(problem, now) }
        }
        if let user, !isHandedOver {
            isHandedOver = true
            let (isArriving, settings) = (source != nil, driver.settings)
            return work(now) {
                let problem = machine.handOver(to: user, isArriving: isArriving, settings)
                return problem.map { .failed("can't start: \($0)") } ?? .ready
            }
        }
        launch(machine, now)
    }

    /// Has a program make the disk of its image.
    private func startImage(_ now: Instant) {
        guard let disk = diskNow, let image = disk.image else { return fail("its disk is not known", now) }
        if let whole = wholeDisk {
            imageSteps = whole.steps(from: image, sizeMiB: disk.sizeMiB, driver.settings.imageProgram)
        } else if source != nil {
            let words = ["create", "-q", "-f", "qcow2", disk.path, "\(disk.sizeMiB)M"]
            imageSteps = [(driver.settings.imageProgram, words)]
        } else {
            let words = [
                "create", "-q", "-f", "qcow2", "-F", image.format, "-b", image.path, disk.path, "\(disk.sizeMiB)M",
            ]
            imageSteps = [(driver.settings.imageProgram, words)]
        }
        startImageStep(now)
    }

    private func giveUpDisk() {
        guard let whole = wholeDisk else { return }
        wholeDisk = nil
        // Nobody waits for it; what it leaves where no thread can be had goes at the next start of the VM, or with it.
        diskWork = try? GuestWork {
            whole.giveUp()
            return .ready
        }
    }

    private func startImageStep(_ now: Instant) {
        let step = imageSteps.removeFirst()
        switch HostProcess.start(step.program, step.words, errorPath: directory.path + "/image.log") {
        case .failure(let failure): return fail(failure.message, now)
        case .success(let child): imageChild = child
        }
        poll(now)
    }

    private func makeSeed(_ machine: QEMUMachine) -> String? {
        guard let seed = machine.seed else { return nil }
        do throws(ISOImage.Refusal) {
            return directory.writeSeed(try seed.image().bytes).map { "its cloud-init disk could not be made: \($0)" }
        } catch {
            return "its cloud-init disk could not be made: \(error)"
        }
    }

    /// Those of a guest that arrives let nothing through yet.
    private func makeTaps(_ machine: QEMUMachine) -> String? {
        let taps = machine.taps.compactMap { $0 }
        if taps.isEmpty { return nil }
        directory.taps = taps
        for tap in taps { if let problem = tap.make(for: user) { return problem } }
        return source == nil ? joinTaps() : nil
    }

    /// From now on the bridges have it. Says what went wrong.
    func joinTaps() -> String? {
        for tap in directory.taps { if let problem = tap.join() { return problem } }
        return nil
    }

    private func launch(_ machine: QEMUMachine, _ now: Instant) {
        let words = machine.arguments(accelerator, isPaused: isStartedPaused, isArriving: source != nil)
        if let parent = driver.parent {
            phase = .asking
            isAsking = true
            wakeAt = nil
            // This guest stays until it was answered.
            return parent.start(
                record.vm, epoch: record.epoch, program: driver.settings.program, words,
                errorPath: directory.path + "/qemu.log", limits: machine.limits(accelerator),
                output: directory.outputPath, companion: machine.tpm?.companion, user: user
            ) { [self] in answered($0) }
        }
        var line: (Int32, Int32)?
        defer { for end in [line?.0, line?.1].compactMap({ $0 }) { close(end) } }
        if let tpm = machine.tpm?.companion {
            line = HostProcess.line()
            switch HostProcess.start(tpm.program, tpm.words, errorPath: "/dev/null", line: line?.0) {
            case .failure(let failure): return fail(failure.message, now)
            case .success(let child): tpmChild = child
            }
        }
        switch HostProcess.start(driver.settings.program, words, errorPath: directory.path + "/qemu.log", line: line?.1)
        {
        case .failure(let failure): fail(failure.message, now)
        case .success(let child):
            self.child = child
            pids = [child.pid]
            phase = .launching(since: now)
            poll(now)
        }
    }

    private func answered(_ answer: Result<pid_t, GuestRefusal>) {
        let now = driver.loop.now
        isAsking = false
        switch answer {
        case .failure(let refusal): fail(refusal.message, now)
        case .success(let pid):
            pids = [pid]
            guard case .asking = phase else { return kill(now) }
            if let user, let its = HostProcess.user(of: pid), its != user.user {
                return fail("its host's guard is older than its agent and started it as the user \(its)", now)
            }
            phase = .launching(since: now)
            poll(now)
        }
    }

    private func connect(_ now: Instant) {
        guard case .connecting(let until) = phase else { return }
        do throws(SystemError) {
            let line = try QMPConnection(
                driver.loop, path: directory.monitorPath, of: directory.owner == nil ? nil : pids)
            self.line = line
            line.onEvent = { [unowned self] in heard($0, $1) }
            line.onClosed = { [unowned self] in lineEnded() }
            phase = .up
            var capabilities = ["events", "late-block-activate"]
            if isEmulated { capabilities.append("pause-before-switchover") }
            line.execute(
                "migrate-set-capabilities",
                [JSONMember("capabilities", .array(capabilities.map { Guest.capability($0) }))])
            line.execute("query-status") { [unowned self] in began($0) }
            memory.follow(self, line)
        } catch {
            if isEnded { return fail("its QEMU process ended at its start", now) }
            if now >= until { return fail("QEMU does not answer: \(error)", now) }
            poll(now)
        }
    }

    static func capability(_ name: String, _ isOn: Bool = true) -> JSONValue {
        .object([JSONMember("capability", .string(name)), JSONMember("state", .bool(isOn))])
    }

    /// What its QEMU process does, first after a start and first after an adoption.
    private func began(_ answer: Result<JSONValue, QMPFailure>) {
        guard case .success(let status) = answer, let word = status["status"]?.text else { return }
        // It listens before it opens its disks, and answers after that.
        directory.removeSeed()
        switch word {
        case "inmigrate":
            if let source { receiveDisks(from: source) }
            driver.say(self, .starting)
        case "running":
            runningSince = runningSince ?? driver.loop.now
            isPaused = false
            setBalloon()
            // An agent before may have ended between the commit and its note of it.
            if record.isArriving { settleHere() }
            findMirrors()
            askMigration()
        case "postmigrate", "finish-migrate":
            isPaused = true
            findSent()
        case "paused", "prelaunch", "suspended":
            isPaused = true
            // Received, and not yet committed here.
            if record.isArriving { return driver.say(self, .starting) }
            driver.say(self, .paused)
            findMirrors()
            // It may stand still only because an earlier agent was moving it.
            askMigration()
        default:
            fail("its QEMU process is in the state '\(word)'", driver.loop.now)
        }
    }

    func sayState() {
        switch (phase, sending) {
        case (.up, .mirroring), (.up, .marking), (.up, .copying), (.up, .reaching), (.up, .returning):
            driver.say(self, .copying)
        case (.up, .settling), (.up, .written): driver.say(self, .copying, progressMillis: 999)
        case (.up, .copied): driver.say(self, .copied, progressMillis: 1_000)
        case (.up, .none) where !record.isArriving: driver.say(self, isPaused ? .paused : .running)
        case (.ending, _), (.killed, _): break
        default: driver.say(self, .starting)
        }
    }

    // MARK: What it says

    private func heard(_ event: String, _ data: JSONValue) {
        switch event {
        case "STOP":
            isPaused = true
            if case .none = sending, !record.isArriving { sayState() }
        case "RESUME":
            isPaused = false
            runningSince = runningSince ?? driver.loop.now
            if record.isArriving { settleHere() }
            setBalloon()
            if case .none = sending { sayState() }
        case "SHUTDOWN":
            let isGuests = data["guest"]?.bool ?? false
            endText = isGuests ? "its guest ended it (\(data["reason"]?.text ?? "no reason"))" : endText
        case "BLOCK_JOB_READY", "BLOCK_JOB_ERROR", "BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED":
            heardOfDisk(event, data)
        case "BALLOON_CHANGE": memory.hear(balloon: data["actual"]?.integer)
        case "GUEST_PANICKED": endText = "its guest's kernel panicked"
        case "MIGRATION":
            let status = data["status"]?.text
            if record.isArriving, status == "completed" { return arrived() }
            // The guest stands still.
            if status == "pre-switchover" {
                switch sending {
                case .marking, .copying: return finishWriting()
                default: break
                }
            }
            askMigration()
        default: break
        }
    }

    private func lineEnded() {
        line = nil
        endProbe(nil)
        let now = driver.loop.now
        closeStream(endText ?? "its QEMU ended: \(complaint)")
        switch phase {
        case .killed, .ending: break
        default: phase = .killed
        }
        poll(now)
    }

    // MARK: Living

    func setPaused(_ wanted: Bool) {
        guard case .none = sending, !record.isArriving else { return }
        if wanted == isPaused, case .up = phase { return sayState() }
        // Answered by an event.
        line?.execute(wanted ? "stop" : "cont")
    }

    func update(_ vm: CellVM) {
        // After an adoption the machine that runs is not known in full: it takes no other until its next start.
        if let running = machine?.vm.spec, QEMUMachine.isSameMachine(running, vm.spec) {
            record.generation = vm.generation
            record.isolation = vm.spec.isolation
            wanted = vm
            setBalloon()
            // The old record is as good for everything but its generation.
            _ = directory.write(record)
        }
        sayState()
    }

    func stop(_ grace: Nanoseconds, _ now: Instant) {
        isToldToStop = true
        switch phase {
        case .images, .asking, .launching, .connecting: kill(now)
        case .up:
            if grace == .zero || isPaused || record.isArriving { return kill(now) }
            line?.execute("system_powerdown")
            phase = .ending(killAt: now + grace)
            poll(now)
        case .ending(let killAt):
            phase = .ending(killAt: min(killAt, now + grace))
            wakeAt = now
        case .killed: break
        }
    }

    private func kill(_ now: Instant) {
        closeStream(endText ?? "its QEMU was ended")
        line?.close()
        line = nil
        endProbe(nil)
        if let imageChild {
            child = imageChild
            exitStatus = nil
            HostProcess.kill(imageChild.pid)
            giveUpDisk()
        }
        imageChild = nil
        if isAsking { driver.parent?.stop(record.vm, epoch: record.epoch) }
        for pid in pids where exitStatus == nil { HostProcess.kill(pid) }
        phase = .killed
        wakeAt = now
    }
}
