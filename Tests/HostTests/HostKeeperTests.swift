import ClusterBase
import Controllers
import FleetModel
import NodePorts
import Simulator
import Testing

@Suite struct HostKeeperTests {
    static let host = HostID(rawValue: 1)
    static let other = HostID(rawValue: 2)
    static let about = HostDescription(name: "h1", capacity: Resources(cpuMillis: 8_000, memoryMiB: 8_192))

    static func vm(_ number: UInt64 = 1, epoch: UInt64 = 1, _ phase: CellVM.Phase = .starting) -> CellVM {
        var vm = CellVM(
            id: VMID(rawValue: number), name: "vm-\(number)", tenant: "default",
            spec: VMDescription(resources: Resources(cpuMillis: 1_000, memoryMiB: 128)), at: LogTime(rawValue: 0),
            by: "test")
        vm.place = VMPlace(Assignment(host: host), epoch: epoch)
        vm.phase = phase
        vm.epochHighest = epoch
        return vm
    }

    /// A keeper and the cell that it hears, one exchange after the other.
    struct Pair {
        var keeper: HostKeeper
        var now = Instant.origin + .seconds(100)
        var index: UInt64 = 10
        var questions: [(number: UInt64, at: Instant)] = []
        var queries: [CellQuery] = []
        var orders: [HypervisorOrder] = []
        var reports: [VMReport] = []
        var registered: [[RunningVM]] = []
        var assignments: [UInt64] = []

        var grants: [HostKeeper.Grant] = []

        init(found: [FoundVM] = [], leaseUntil: Instant? = nil, isGuarded: Bool = false) {
            keeper = HostKeeper(
                host: host, incarnation: Incarnation(rawValue: 1), about: about, found: found, leaseUntil: leaseUntil,
                isGuarded: isGuarded)
        }

        /// One step; commands are answered at once, questions wait in `questions`.
        mutating func step(_ inputs: [HostKeeper.Input] = []) {
            var output = keeper.step(inputs, now: now)
            while true {
                orders += output.orders
                if let grant = output.grant { grants.append(grant) }
                for question in output.questions {
                    questions.append((question.number, now))
                    queries.append(question.query)
                }
                guard let (number, command) = output.command else { return }
                switch command.operation {
                case .registerHost(_, _, _, let running, let assignment):
                    registered.append(running)
                    assignments.append(assignment)
                case .reportVMs(_, _, let all): reports += all
                default: Issue.record("a host does not say \(command)")
                }
                output = keeper.step(
                    [.commandDone(number: number, CellResult(revision: .zero, outcome: .done))], now: now)
            }
        }

        /// The oldest open question is answered by these rows.
        mutating func answer(_ rows: [CellVM]?, lease: UInt64 = 3_000) {
            if !questions.isEmpty && rows != nil { index += 1 }
            answer(.work(rows, workIndex: LogIndex(rawValue: index), lease: lease))
        }

        mutating func answer(_ body: CellAnswer.Body) {
            guard !questions.isEmpty else { return }
            let question = questions.removeFirst()
            if case .workChanges(_, let at, _) = body { index = at.rawValue }
            let answer = CellAnswer(index: LogIndex(rawValue: index), time: LogTime(rawValue: 0), body: body)
            step([.answered(question: question.number, answer)])
        }

        mutating func pass(_ time: Nanoseconds) {
            let end = now + time
            while now < end {
                now = min(end, max(now + .milliseconds(1), keeper.deadline))
                step()
            }
        }

        mutating func say(_ vm: CellVM, _ epoch: UInt64, _ state: VMReport.State, progressMillis: UInt32 = 0) {
            let report = VMReport(
                vm.id, epoch: epoch, state, generation: vm.generation, progressMillis: progressMillis)
            step([.news(.state(report))])
        }
    }

    @Test func `a host registers, asks, starts what it is given, and says that it runs until that shows`() {
        var pair = Pair()
        pair.step()
        #expect(pair.registered == [[]])
        #expect(pair.questions.count == 1)
        let vm = Self.vm()
        pair.answer([vm])
        #expect(pair.orders == [.start(vm, epoch: 1, isPaused: false)])
        pair.pass(.milliseconds(10))
        #expect(pair.orders.count == 1)
        pair.say(vm, 1, .running)
        #expect(pair.reports.map(\.state) == [.running])
        // The rows don't show it: after a while it is said again.
        for _ in 0..<10 {
            pair.pass(.milliseconds(400))
            pair.answer(nil)
        }
        #expect(pair.reports.count > 1)
        #expect(pair.reports.allSatisfy { $0.state == .running && $0.epoch == 1 })
        var seen = vm
        (seen.phase, seen.runningGeneration) = (.running, vm.generation)
        pair.pass(.milliseconds(600))
        while !pair.questions.isEmpty { pair.answer([seen]) }
        let count = pair.reports.count
        for _ in 0..<10 {
            pair.pass(.milliseconds(400))
            pair.answer(nil)
        }
        #expect(pair.reports.count == count)
    }

    @Test func `a VM that this agent never had is said to stand still once, and all rows are asked for then`() {
        var pair = Pair()
        pair.step()
        var vm = Self.vm(1, epoch: 4, .stopping)
        vm.power = .stopped
        pair.answer([vm])
        #expect(pair.reports.map(\.state) == [.stopped])
        // Whether it stops or has stopped is the same work to the cell: it tells nothing new by itself.
        for _ in 0..<8 {
            pair.pass(.milliseconds(200))
            pair.answer(nil)
        }
        #expect(pair.reports.count == 1)
        for _ in 0..<4 {
            pair.pass(.milliseconds(400))
            pair.answer(nil)
        }
        #expect(pair.reports.count == 2)
        #expect(
            pair.queries.suffix(2).contains {
                if case .hostWork(_, since: .zero, _) = $0 { true } else { false }
            })
    }

    @Test func `a host that goes to another cell starts nothing of the old one, whatever is still answered`() {
        var pair = Pair()
        pair.step([.assigned(epoch: 0, isOtherCell: false)])
        #expect(pair.assignments == [0])
        pair.answer([])
        pair.pass(.milliseconds(600))
        let late = pair.questions
        #expect(!late.isEmpty)
        let lease = pair.keeper.lease
        pair.step([.assigned(epoch: 4, isOtherCell: true)])
        #expect(pair.assignments == [0, 4] && pair.keeper.lease == lease, "what it was promised goes on until it ends")
        // The old cell answers what was asked of it before.
        let body = CellAnswer.Body.work([Self.vm()], workIndex: LogIndex(rawValue: 90), lease: 3_000)
        let answer = CellAnswer(index: LogIndex(rawValue: 90), time: LogTime(rawValue: 0), body: body)
        pair.step(late.map { .answered(question: $0.number, answer) })
        #expect(pair.orders.isEmpty && pair.keeper.lease == lease)
        pair.questions.removeFirst(late.count)
        pair.index = 1
        pair.answer([Self.vm(2)])
        #expect(pair.orders == [.start(Self.vm(2), epoch: 1, isPaused: false)], "an entry of this cell, however low")
        pair.step([.assigned(epoch: 4, isOtherCell: false)])
        #expect(pair.assignments == [0, 4], "what it knows already changes nothing")
        pair.step([.assigned(epoch: 6, isOtherCell: false)])
        #expect(pair.assignments == [0, 4, 6])
    }

    @Test func `a lease counts from when its question was sent, and VMs end before it does`() throws {
        var pair = Pair()
        pair.step()
        let vm = Self.vm()
        pair.answer([vm])
        pair.say(vm, 1, .running)
        pair.orders = []
        pair.pass(.milliseconds(100))
        let sent = try #require(pair.questions.first?.at)
        // The answer takes more than a second.
        pair.pass(.milliseconds(1_200))
        pair.answer(nil)
        #expect(pair.keeper.lease == sent + .seconds(3))
        let stopAt = sent + .milliseconds(2_400)
        pair.pass(stopAt - pair.now - .milliseconds(1))
        #expect(pair.orders.isEmpty)
        pair.pass(.milliseconds(2))
        #expect(pair.orders == [.stop(vm.id, epoch: 1, grace: .zero)])
    }

    @Test func `a VM that stays when it is cut off is left alone when the lease ends`() {
        var pair = Pair()
        pair.step()
        var vm = Self.vm()
        vm.spec.isolation = .keep
        pair.answer([vm])
        pair.say(vm, 1, .running)
        pair.orders = []
        pair.pass(.seconds(20))
        #expect(pair.orders.isEmpty)
    }

    @Test func `without a lease nothing starts, also when an old answer comes`() {
        var pair = Pair()
        pair.step()
        pair.answer([])
        pair.pass(.milliseconds(600))
        // This question's answer takes longer than the lease.
        #expect(pair.questions.count >= 1)
        pair.questions = Array(pair.questions.suffix(1))
        let question = pair.questions[0]
        pair.now = question.at + .milliseconds(2_500)
        pair.answer([Self.vm()])
        #expect(pair.orders.isEmpty)
    }

    @Test func `a new epoch waits until the old one is gone`() {
        var pair = Pair()
        pair.step()
        pair.answer([Self.vm()])
        pair.say(Self.vm(), 1, .running)
        pair.orders = []
        let next = Self.vm(epoch: 2)
        pair.pass(.milliseconds(100))
        pair.answer([next])
        #expect(pair.orders == [.stop(next.id, epoch: 1, grace: .seconds(10))])
        pair.say(next, 1, .stopped)
        #expect(pair.orders.last == .start(next, epoch: 2, isPaused: false))
        // And an epoch starts once.
        pair.say(next, 2, .crashed)
        pair.pass(.milliseconds(100))
        pair.answer(nil)
        #expect(pair.orders.count == 2)
        #expect(pair.reports.last.map { $0.state == .crashed && $0.epoch == 2 } == true)
    }

    @Test func `what the cell does not name any more goes at once, its disks too`() {
        var pair = Pair()
        pair.step()
        let vm = Self.vm()
        pair.answer([vm])
        pair.say(vm, 1, .running)
        pair.pass(.milliseconds(500))
        pair.answer([])
        #expect(pair.orders.last == .discard(vm.id, epoch: 1, forGood: true))
    }

    @Test func `a new agent names what it found, and stops it when nobody remembers a lease`() {
        let vm = Self.vm()
        let found = FoundVM(vm.id, epoch: 1, state: .running, generation: 1, isolation: .stop)
        var pair = Pair(found: [found], leaseUntil: Instant.origin + .seconds(102))
        pair.step()
        #expect(pair.registered == [[RunningVM(vm.id, epoch: 1)]])
        #expect(pair.orders.isEmpty)
        var forgetful = Pair(found: [found])
        forgetful.step()
        #expect(forgetful.orders == [.stop(vm.id, epoch: 1, grace: .zero)])
        #expect(forgetful.registered == [[RunningVM(vm.id, epoch: 1)]], "it may still run")
    }

    @Test func `under a guard it stops nothing for the lease, and hands on every grant as of when it asked`() {
        let vm = Self.vm()
        let found = FoundVM(vm.id, epoch: 1, state: .running, generation: 1, isolation: .stop)
        var pair = Pair(found: [found], isGuarded: true)
        pair.step()
        #expect(pair.orders.isEmpty)
        let askedAt = pair.questions[0].at
        pair.now += .milliseconds(40)
        pair.answer([vm])
        #expect(
            pair.grants == [
                HostKeeper.Grant(
                    sentAt: askedAt, length: .seconds(3), generation: LogIndex(rawValue: 11),
                    permits: [RunPermit(vm.id, epoch: 1, isolation: .stop)])
            ])
        pair.pass(.seconds(20))
        #expect(pair.orders.isEmpty, "nobody answered, and that is the guard's affair")
        pair.questions.removeFirst(pair.questions.count - 1)
        pair.answer([], lease: 0)
        #expect(pair.grants.last?.length == .zero)
    }

    @Test func `a host that the cell gave up stops its VMs and registers again`() {
        var pair = Pair()
        pair.step()
        let vm = Self.vm()
        pair.answer([vm])
        pair.say(vm, 1, .running)
        pair.orders = []
        pair.pass(.milliseconds(500))
        pair.answer([], lease: 0)
        #expect(pair.orders == [.stop(vm.id, epoch: 1, grace: .zero)])
        #expect(pair.registered.count == 2)
        #expect(pair.registered.last == [RunningVM(vm.id, epoch: 1)])
    }

    @Test func `the source of a migration waits for the verdict, and the destination for the commit`() {
        var pair = Pair()
        pair.step()
        var vm = Self.vm()
        (vm.phase, vm.runningGeneration) = (.running, vm.generation)
        pair.answer([Self.vm()])
        pair.say(vm, 1, .running)
        let target = VMPlace(Assignment(host: Self.other), epoch: 2)
        vm.migration = Migration(
            phase: .copying, cause: .asked, target: target, source: VMPlace(Assignment(host: Self.host), epoch: 1),
            since: LogTime(rawValue: 0))
        pair.pass(.milliseconds(500))
        pair.answer([vm])
        #expect(pair.orders.last == .send(vm.id, epoch: 1, target: 2, to: Self.other))
        pair.say(vm, 1, .copied)
        #expect(pair.reports.last?.state == .copied)
        let count = pair.orders.count
        pair.pass(.milliseconds(300))
        pair.answer(nil)
        #expect(pair.orders.count == count)
        var off = vm
        off.migration?.phase = .undoing
        pair.pass(.milliseconds(300))
        while !pair.questions.isEmpty { pair.answer([off]) }
        #expect(pair.orders.last == .cancelSend(vm.id, epoch: 1))

        var arrival = Pair()
        arrival.step()
        var coming = Self.vm(9, epoch: 1, .running)
        coming.place = VMPlace(Assignment(host: Self.other), epoch: 1)
        coming.migration = Migration(
            phase: .copying, cause: .asked, target: VMPlace(Assignment(host: Self.host), epoch: 2),
            source: VMPlace(Assignment(host: Self.other), epoch: 1), since: LogTime(rawValue: 0))
        arrival.answer([coming])
        #expect(arrival.orders == [.receive(coming, epoch: 2, from: Self.other)])
        arrival.say(coming, 2, .running)
        #expect(arrival.reports.isEmpty, "nothing was committed")
        var here = coming
        here.place = here.migration?.target
        here.migration?.phase = .leaving
        arrival.pass(.milliseconds(300))
        arrival.answer([here])
        #expect(arrival.orders.last == .finishArrival(coming.id, epoch: 2))
    }

    @Test func `a source that sent disks along throws its own away only when the guest runs where it is now`() {
        var pair = Pair()
        pair.step()
        var vm = Self.vm()
        vm.spec.disks = [.init(name: "d", sizeMiB: 1, kind: .local)]
        pair.answer([vm])
        (vm.phase, vm.runningGeneration) = (.running, vm.generation)
        pair.say(vm, 1, .running)
        vm.migration = Migration(
            phase: .copying, cause: .asked, target: VMPlace(Assignment(host: Self.other), epoch: 2),
            source: VMPlace(Assignment(host: Self.host), epoch: 1), since: LogTime(rawValue: 0))
        pair.pass(.milliseconds(500))
        pair.answer([vm])
        pair.say(vm, 1, .copied)
        vm.place = vm.migration?.target
        vm.migration?.phase = .leaving
        pair.pass(.milliseconds(300))
        while !pair.questions.isEmpty { pair.answer([vm]) }
        #expect(pair.orders.last == .stop(vm.id, epoch: 1, grace: .zero), "its process goes, its disks stay")
        pair.reports = []
        pair.say(vm, 1, .stopped)
        pair.pass(.milliseconds(600))
        while !pair.questions.isEmpty { pair.answer([vm]) }
        #expect(!pair.reports.contains { $0.state == .stopped })
        #expect(!pair.orders.contains(.discard(vm.id, epoch: 1, forGood: true)))
        vm.migration?.hasArrived = true
        pair.pass(.milliseconds(600))
        while !pair.questions.isEmpty { pair.answer([vm]) }
        #expect(pair.orders.last == .discard(vm.id, epoch: 1, forGood: true))
        #expect(pair.reports.last?.state == .stopped)

        // The other side says that it runs though the cell has it so.
        var arrival = Pair()
        arrival.step()
        var here = vm
        here.place = VMPlace(Assignment(host: Self.host), epoch: 2)
        here.migration?.target = VMPlace(Assignment(host: Self.host), epoch: 2)
        here.migration?.source = VMPlace(Assignment(host: Self.other), epoch: 1)
        here.migration?.phase = .copying
        here.place = here.migration?.source
        arrival.answer([here])
        here.place = here.migration?.target
        here.migration?.phase = .leaving
        here.migration?.hasArrived = false
        arrival.pass(.milliseconds(300))
        arrival.answer([here])
        #expect(arrival.orders.last == .finishArrival(vm.id, epoch: 2))
        arrival.say(here, 2, .running)
        #expect(arrival.reports.last?.state == .running && arrival.reports.last?.epoch == 2)
    }

    @Test func `while a guest stands still for its migration nobody waits for the next question`() {
        var pair = Pair()
        pair.step()
        var vm = Self.vm()
        (vm.phase, vm.runningGeneration) = (.running, vm.generation)
        pair.answer([Self.vm()])
        pair.say(vm, 1, .running)
        vm.migration = Migration(
            phase: .copying, cause: .asked, target: VMPlace(Assignment(host: Self.other), epoch: 2),
            source: VMPlace(Assignment(host: Self.host), epoch: 1), since: LogTime(rawValue: 0))
        pair.pass(.milliseconds(500))
        pair.answer([vm])
        pair.say(vm, 1, .copying, progressMillis: 400)
        #expect(pair.reports.last?.state == .copying)
        pair.pass(.milliseconds(2))
        pair.say(vm, 1, .copied)
        #expect(pair.reports.last?.state == .copied, "without rows that are newer than the report before")

        var arrival = Pair()
        arrival.step()
        var coming = Self.vm(9, epoch: 1, .running)
        coming.place = VMPlace(Assignment(host: Self.other), epoch: 1)
        coming.migration = Migration(
            phase: .copying, cause: .asked, target: VMPlace(Assignment(host: Self.host), epoch: 2),
            source: VMPlace(Assignment(host: Self.other), epoch: 1), since: LogTime(rawValue: 0))
        arrival.answer([coming])
        while !arrival.questions.isEmpty { arrival.answer(nil) }
        arrival.pass(.milliseconds(40))
        #expect(arrival.questions.count >= 2)
    }

    @Test func `an agent that ends takes its VMs with it, says so, and does not wait for ever`() {
        var pair = Pair()
        pair.step()
        let vm = Self.vm()
        pair.answer([vm])
        pair.say(vm, 1, .running)
        pair.orders = []
        pair.step([.ending(vmsStay: false)])
        #expect(pair.orders == [.stop(vm.id, epoch: 1, grace: .zero)])
        #expect(!pair.keeper.isEnded(pair.now))
        pair.say(vm, 1, .stopped)
        pair.pass(.milliseconds(80))
        pair.answer(nil)
        #expect(pair.reports.last?.state == .crashed)
        #expect(pair.reports.last?.message.contains("agent ended") == true)
        #expect(pair.keeper.isEnded(pair.now + .seconds(1)))
        var staying = Pair()
        staying.step([.ending(vmsStay: true)])
        #expect(staying.keeper.isEnded(staying.now))
    }
}
