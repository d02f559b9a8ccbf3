import AdminAPI
import AdminHTTP
import BackupFormat
import ClusterBase
import FleetModel
import NodePorts
import NodeRuntime
import NodeStorage
import RaftCore
import StoreLayout

// Copies of groups' states, for backups. Each is read from a view of the store while applying goes on; a turn reads one
// piece of each, and none for a client that has enough to take.

extension AdminPort {
    struct Copy {
        let ticket: Ticket
        let group: GroupID
        var source: BackupGroupSource<StateStore.View>
        var isFull = false
    }

    private static let copiesMax = 4

    /// What a backup has to hold, and who can give it.
    var backupPlan: BackupPlan {
        let placed = agent.view.placements.filter { $0.replicaHighest > ReplicaID(0) }
        let parts = placed.sorted { ($0.group == .root ? 0 : 1, $0.group) < ($1.group == .root ? 0 : 1, $1.group) }
            .map { placement in
                let holders = placement.replicas.filter { $0.phase == .made && !$0.isLeaving }.map(\.node)
                let ordered = holders.filter { $0 == agent.node } + holders.filter { $0 != agent.node }
                return BackupPart(
                    group: placement.group.rawValue, name: agent.name(of: placement.group),
                    addresses: ordered.compactMap { agent.view.node($0)?.about.adminAddress })
            }
        return BackupPlan(
            cluster: cluster, name: agent.view.cluster?.name ?? "", level: Int64(agent.view.cluster?.level ?? 0),
            groups: parts)
    }

    /// Keeps VMs from going on between cells for so many milliseconds, so that copies of cells that are made one after the
    /// other have each VM once. 0 ends that.
    func holdMoves(_ milliseconds: UInt64, _ asker: Asker, _ done: @escaping (Problem?) -> Void) {
        guard cells.count > 1, agent.problem(wanting: FeatureLevel.cells) == nil else { return done(nil) }
        holdMoves(milliseconds, asker.name, cells.map(\.group)[...], done)
    }

    private func holdMoves(
        _ milliseconds: UInt64, _ by: String, _ cells: ArraySlice<GroupID>, _ done: @escaping (Problem?) -> Void
    ) {
        guard let cell = cells.first else { return done(nil) }
        func set(_ until: UInt64) {
            let command = CellCommand(by: by, .setSetting(.movesHeldUntil, until))
            agent.request(.command(cell, command.encoded())) { [self] outcome in
                guard case .applied(.cell(let result)) = outcome else { return done(Problem(outcome)) }
                if case .refused(let refusal) = result.outcome { return done(Problem(refusal)) }
                holdMoves(milliseconds, by, cells.dropFirst(), done)
            }
        }
        if milliseconds == 0 { return set(0) }
        // By the cell's own time.
        agent.request(.command(cell, CellCommand(by: by, .noteTime).encoded())) { [self] outcome in
            guard case .applied = outcome else { return done(Problem(outcome)) }
            agent.request(.query(cell, .cell(AdminPort.holdQuery))) { outcome in
                guard case .read(.cell(let answer)) = outcome else { return done(Problem(outcome)) }
                set(answer.time.rawValue + milliseconds)
            }
        }
    }

    private static var holdQuery: CellQuery {
        .one(.settings, key: bytes(UInt64(CellSetting.movesHeldUntil.rawValue)))
    }

    /// Whether no VM of the cell has gone on between cells since the backup was planned, as its copy here says.
    private func isHeld(_ cell: GroupID) -> Bool {
        guard cells.count > 1, agent.problem(wanting: FeatureLevel.cells) == nil else { return true }
        guard case .cell(let answer)? = agent.engine.readHere(cell, .cell(AdminPort.holdQuery)),
            case .setting(_, let until?)? = AdminPort.rows(answer).rows.first
        else { return false }
        return until > answer.time.rawValue
    }

    /// Streams a group's state as it is applied here, everything in it that was acknowledged before.
    func copy(_ group: GroupID, _ principal: Principal, _ ticket: Ticket) {
        if case .node(let node) = principal {
            // A node takes a cluster's backups when it holds the authority's key, and may do everything, anyway.
            let placed = agent.view.placement(.root)?.replica(on: node)
            guard placed?.part == .voter, placed?.isLeaving == false else {
                return fail(ticket, .forbidden, "only nodes that vote in the root group copy state; ask as an operator")
            }
        }
        if copies.count >= AdminPort.copiesMax {
            return fail(ticket, .overloaded, "\(copies.count) copies are under way on this node; ask again later")
        }
        guard let kind = group.kind, agent.engine.inspect(group, { _, _ in }) != nil else {
            return fail(
                ticket, .notFound, "this node holds no copy of group \(group.rawValue); GET /v1/backup says who does")
        }
        agent.request(.query(group, .probe(kind))) { [self] outcome in
            guard case .read(let read) = outcome else { return answer(ticket, AdminResponse(Problem(outcome))) }
            do throws(StoreError) {
                let size = BackupGroupSource<StateStore.View>.pieceBytesMax
                guard let (base, source) = try agent.engine.copy(of: group, bytesMax: size), base.index >= read.index
                else { return fail(ticket, .unavailable, "this node's copy is behind; ask again, or ask another node") }
                guard kind != .cell || isHeld(group) else {
                    return fail(
                        ticket, .notPossible,
                        "VMs have gone from cell to cell since the backup was begun, which took more than an hour, or another one "
                            + "ended meanwhile; begin it again")
                }
                copies.append(
                    Copy(
                        ticket: ticket, group: group,
                        source: BackupGroupSource(group, name: agent.name(of: group), base: base, source)))
                answer(ticket, .stream(.bytes, index: base.index))
            } catch {
                fail(ticket, .internal, error.message)
            }
        }
    }

    func tendCopies() {
        for copy in copies where !copy.isFull {
            guard let i = copies.firstIndex(where: { $0.ticket == copy.ticket }) else { continue }
            do throws(StoreError) {
                guard let bytes = try copies[i].source.next() else {
                    copies.remove(at: i)
                    server.endStream(copy.ticket)
                    continue
                }
                switch server.send(copy.ticket, bytes) {
                case .open: break
                case .full: copies[i].isFull = true
                case .gone: copies.remove(at: i)
                }
            } catch {
                agent.log.error("a state can't be copied", ["group": "\(copy.group)", "reason": error.message])
                copies.remove(at: i)
                server.endStream(copy.ticket, isWhole: false)
            }
        }
    }
}
