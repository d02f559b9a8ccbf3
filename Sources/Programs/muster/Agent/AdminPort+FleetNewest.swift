import AdminAPI
import AdminHTTP
import ClusterBase
import FleetModel
import NodeRuntime
import RaftCore

// The newest events first. A cell reads events forwards alone, so they are taken in windows from the end to the front, each
// wider than the one after it: what is long past costs nothing where it is not asked for.

/// A list of events that is read backwards.
final class NewestEvents {
    /// Entries that the first window covers for each event that is wanted.
    static let entriesPerEvent: UInt64 = 4

    let list: FleetList
    let isAudit: Bool
    let vm: VMID?
    let host: HostID?
    let cell: GroupID
    let asker: FleetAsker
    /// Newest first.
    var kept: [JSONValue] = []
    /// Of the window that is being read, oldest first.
    var window: [CellEvent] = []
    /// All that is before this one is still to be read.
    var end: Revision
    /// The window's entries are those after this one.
    var low = LogIndex.zero
    var width: UInt64
    var examined = 0
    var index = LogIndex.zero
    var age: Nanoseconds?

    init(
        _ list: FleetList, isAudit: Bool, vm: VMID?, host: HostID?, _ cell: GroupID, _ asker: FleetAsker
    ) {
        self.list = list
        self.isAudit = isAudit
        self.vm = vm
        self.host = host
        self.cell = cell
        self.asker = asker
        end = list.after.flatMap { Revision($0) } ?? .zero
        width = max(256, UInt64(list.limit) * NewestEvents.entriesPerEvent)
    }
}

extension AdminPort {
    func begin(_ job: NewestEvents) {
        // What is newest, is asked first.
        read(.list(.settings, after: nil, limit: 1), job.list.mode, job.cell) { [self] result in
            switch result {
            case .failure(let problem): fail(job.asker, problem)
            case .success(let found):
                job.index = found.answer.index
                job.age = [job.age, found.age].compactMap(\.self).max()
                if job.end == .zero || job.end.index > job.index { job.end = .end(of: job.index) }
                // What happened to one VM is a short list that the VM's row names.
                if job.vm != nil { job.width = job.index.rawValue }
                openWindow(job)
            }
        }
    }

    private func openWindow(_ job: NewestEvents) {
        let last = job.end.index.rawValue
        job.low = LogIndex(last - min(last, job.width))
        job.width = job.width > .max / 4 ? .max : job.width * 4
        job.window = []
        readOn(job, after: job.low == .zero ? .zero : .end(of: job.low))
    }

    private func readOn(_ job: NewestEvents, after: Revision) {
        let query = CellQuery.events(after: after, vm: job.vm, host: job.host, limit: 0)
        let mode: ReadMode
        if case .stale = job.list.mode { mode = job.list.mode } else { mode = .atLeast(job.index) }
        read(query, mode, job.cell) { [self] result in
            switch result {
            case .failure(let problem): fail(job.asker, problem)
            case .success(let found):
                if case .compacted = found.answer.body, after > .zero {
                    // Before the window nothing is kept.
                    job.low = .zero
                    return readOn(job, after: .zero)
                }
                guard case .events(let events, let next) = found.answer.body else {
                    return fail(job.asker, Problem(.internal, "the cell's answer was of another kind; report this"))
                }
                job.examined += events.count
                job.window += events.filter { $0.revision < job.end }
                if let next, next < job.end, next > after { return readOn(job, after: next) }
                closeWindow(job)
            }
        }
    }

    private func closeWindow(_ job: NewestEvents) {
        for event in job.window.reversed() where shows(event, job.list, job.isAudit, job.asker) {
            if job.kept.count == job.list.limit {
                return finish(job, before: job.end)
            }
            job.kept.append(EventInfo(event).json.only(job.list.fields))
            job.end = event.revision
        }
        if job.low == .zero { return finish(job, before: nil) }
        job.end = Revision(index: job.low.next, slot: 0)
        let isEnough = job.kept.count == job.list.limit || job.examined >= FleetListJob.examinedMax
        isEnough ? finish(job, before: job.end) : openWindow(job)
    }

    private func finish(_ job: NewestEvents, before: Revision?) {
        answer(job.asker, AdminPort.page(job.kept, next: before?.description, job.index, job.age))
    }
}
