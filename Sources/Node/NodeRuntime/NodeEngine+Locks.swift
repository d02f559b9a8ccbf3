import ClusterBase
import Controllers
import FleetModel
import NodePorts
import RaftCore

// Where a space is led, leases of its locks are counted.

/// The spaces that are led here and have locks, or had some.
struct LockWatches {
    struct Kept {
        let group: GroupID
        let term: Term
        var watch = LockWatch()
        var hasNews = true
    }

    var kept: [Kept] = []
    /// Renewals that are read at once; more come in the same turn's next read.
    static let pageMax = 1_000
}

extension NodeEngine {
    /// An entry was applied where its group is led.
    func noteLocks(_ i: Int, _ entry: Entry, _ results: [SpaceResult]) {
        guard replicas[i].group.kind == .space else { return }
        if case .command = entry.content {
            let isNews = results.contains {
                if case .held = $0.outcome { return true }
                return false
            }
            if isNews { noteLocks(i) }
        } else if entry.term == replicas[i].raft.term {
            beginLocks(i)
        }
    }

    private func noteLocks(_ i: Int) {
        let group = replicas[i].group
        if let k = locks.kept.firstIndex(where: { $0.group == group && $0.term == replicas[i].raft.term }) {
            locks.kept[k].hasNews = true
        } else {
            locks.kept.removeAll { $0.group == group }
            locks.kept.append(LockWatches.Kept(group: group, term: replicas[i].raft.term))
        }
    }

    /// What was locked under a leader before: looked up when a space's leader has applied its term's first entry.
    private func beginLocks(_ i: Int) {
        if case .space(let found)? = readHere(replicas[i].group, .space(.renewals(after: .zero, limit: 1))),
            case .locks(let locks, _) = found.body, !locks.isEmpty
        {
            noteLocks(i)
        }
    }

    var locksDeadline: Instant {
        locks.kept.reduce(Instant(nanoseconds: .max)) { $1.hasNews ? lastNow : min($0, $1.watch.deadline) }
    }

    /// Costs nothing where there are no locks.
    func tendLocks(_ now: Instant) {
        if locks.kept.isEmpty { return }
        locks.kept.removeAll { kept in
            guard let i = position(of: kept.group) else { return true }
            return !replicas[i].raft.isLeader || replicas[i].raft.term != kept.term
        }
        for k in locks.kept.indices {
            let group = locks.kept[k].group
            while locks.kept[k].hasNews {
                let query = SpaceQuery.renewals(after: locks.kept[k].watch.through, limit: LockWatches.pageMax)
                guard case .space(let found)? = readHere(group, .space(query)),
                    case .locks(let news, let more) = found.body
                else {
                    // It takes nothing any more, and its locks end with it.
                    locks.kept[k].hasNews = false
                    break
                }
                locks.kept[k].watch.take(news, now: now)
                locks.kept[k].hasNews = more != nil
            }
            let operations = locks.kept[k].watch.due(now) { name in
                guard case .space(let found)? = readHere(group, .space(.lock(name: name))),
                    case .locks(let locks, _) = found.body
                else { return nil }
                return locks.first
            }
            for operation in operations {
                ask(.command(group, SpaceCommand(operation).encoded()), .told, now)
            }
        }
        locks.kept.removeAll { $0.watch.count == 0 && !$0.hasNews }
    }
}
