package import ClusterBase
package import FleetModel
package import RaftCore

/// What the loss of one zone or one region would cost a cell, as its leader sees its replicas at this moment.
///
/// Two questions that are easily taken for one:
///
/// * **Is what was acknowledged still somewhere?** That is about the newest log elsewhere (`entries`, `lag`). Where each quorum has a
///   voter elsewhere (`isCovered`), one of those has all of it, however far the others lag: nothing is lost.
/// * **Does the cell go on?** That is about a majority elsewhere (`goesOn`). One that lags has to catch up first (`catchUp`): that
///   costs time, and no data.
///
/// A replica whose node does not answer counts for neither, since nobody knows whether it comes back.
package struct CellExposure: Hashable, Sendable {
    /// One member of the cell's group.
    package struct Replica: Hashable, Sendable {
        /// Its node's.
        package var name: String
        package var place: Locality
        package var role: Role
        /// Durable there, as far as the leader knows.
        package var match: LogIndex
        package var isSilent: Bool
        package init(name: String, place: Locality, role: Role, match: LogIndex, isSilent: Bool = false) {
            self.name = name
            self.place = place
            self.role = role
            self.match = match
            self.isSilent = isSilent
        }
    }

    package enum Scope: String, Hashable, Sendable, CaseIterable { case zone, region }

    /// One zone or region with replicas, gone.
    package struct Loss: Hashable, Sendable {
        package var scope: Scope
        package var region: String
        /// Empty for a region.
        package var zone: String
        /// Replicas there, and those elsewhere that answer.
        package var replicas: Int
        package var elsewhere: Int
        /// Each quorum has a voter elsewhere.
        package var isCovered: Bool
        /// Acknowledged entries that no replica elsewhere holds; nil where none there answers, and nothing is left.
        package var entries: UInt64?
        /// How old the oldest of them is, at most.
        package var lag: Nanoseconds
        /// The node elsewhere with the newest log; empty for none.
        package var best: String
        /// Those elsewhere that answer are a majority.
        package var goesOn: Bool
        /// Entries that one of them gets before a majority has all, and writes go on.
        package var catchUp: UInt64

        package var place: String {
            scope == .region ? "region \(region)" : region.isEmpty ? "zone \(zone)" : "zone \(zone) of region \(region)"
        }

        /// Whether it keeps that nothing older than `most` is lost.
        func keeps(_ most: Nanoseconds) -> Bool {
            guard let entries else { return false }
            if entries > 0 { return lag <= most }
            return isCovered || most > .zero
        }
    }

    package var commit: LogIndex
    /// Zones first, by name.
    package var losses: [Loss]

    package init(_ replicas: [Replica], commit: LogIndex, times: CommitTimes, now: Instant) {
        self.commit = commit
        losses = []
        for scope in Scope.allCases {
            var seen: [Locality] = []
            for replica in replicas {
                let place = CellExposure.place(replica.place, scope)
                if (scope == .zone ? place.zone : place.region).isEmpty || seen.contains(place) { continue }
                seen.append(place)
            }
            for place in seen.sorted(by: { ($0.region, $0.zone) < ($1.region, $1.zone) }) {
                losses.append(CellExposure.loss(of: place, scope, replicas, commit, times, now))
            }
        }
    }

    private static func place(_ of: Locality, _ scope: Scope) -> Locality {
        Locality(region: of.region, zone: scope == .zone ? of.zone : "")
    }

    private static func loss(
        of place: Locality, _ scope: Scope, _ replicas: [Replica], _ commit: LogIndex, _ times: CommitTimes,
        _ now: Instant
    ) -> Loss {
        let gone = replicas.filter { self.place($0.place, scope) == place }
        let left = replicas.filter { self.place($0.place, scope) != place && !$0.isSilent }
        let best = left.max { $0.match < $1.match }
        var loss = Loss(
            scope: scope, region: place.region, zone: place.zone, replicas: gone.count, elsewhere: left.count,
            isCovered: false, entries: nil, lag: .zero, best: best?.name ?? "", goesOn: true, catchUp: 0)
        if let best {
            loss.entries = commit > best.match ? UInt64(commit - best.match) : 0
            loss.lag = times.age(after: best.match, upTo: commit, now)
        }
        for isOld in [true, false] {
            func votes(_ role: Role) -> Bool { isOld ? role.votesInOldHalf : role.votesInNewHalf }
            let quorum = replicas.count { votes($0.role) } / 2 + 1
            // A quorum of both halves is needed: one of them that has none there is enough.
            if gone.count(where: { votes($0.role) }) < quorum { loss.isCovered = true }
            let matches = left.filter { votes($0.role) }.map(\.match).sorted(by: >)
            guard matches.count >= quorum else {
                loss.goesOn = false
                continue
            }
            let last = matches[quorum - 1]
            if commit > last { loss.catchUp = max(loss.catchUp, UInt64(commit - last)) }
        }
        return loss
    }

    /// As the group's leader sees it. `place` is where a node is, and what it is called.
    package init(
        _ raft: borrowing Raft, times: CommitTimes, now: Instant, place: (NodeID) -> (name: String, place: Locality)?
    ) {
        var replicas: [Replica] = []
        for member in raft.configuration.members {
            let found = place(member.peer.node)
            replicas.append(
                Replica(
                    name: found?.name ?? "node-\(member.peer.node)", place: found?.place ?? Locality(),
                    role: member.role, match: raft.match(of: member.peer.replica) ?? .zero,
                    isSilent: member.peer != raft.peer && raft.doubts(member.peer.node)))
        }
        self.init(replicas, commit: raft.commit, times: times, now: now)
    }
}

/// What a cell promises for the loss of one zone or region.
package struct CellPromise: Hashable, Sendable {
    /// How old what is lost with one may be; nil where nothing is promised.
    package var rpoZone: Nanoseconds?
    package var rpoRegion: Nanoseconds?
    package var survives: RootCell.Survival?

    package init(rpoZone: Nanoseconds? = nil, rpoRegion: Nanoseconds? = nil, survives: RootCell.Survival? = nil) {
        self.rpoZone = rpoZone
        self.rpoRegion = rpoRegion
        self.survives = survives
    }

    /// By its settings: what it is to survive costs nothing that was acknowledged, unless more is declared.
    package init(_ view: CellView, survives: RootCell.Survival?) {
        func most(_ setting: CellSetting, _ isSurvived: Bool) -> Nanoseconds? {
            switch Objective(value: view[setting]) {
            case .within(let most): most
            case .none?: nil
            case .auto, nil: isSurvived ? .zero : nil
            }
        }
        self.init(
            rpoZone: most(.rpoZone, survives != nil), rpoRegion: most(.rpoRegion, survives == .region),
            survives: survives)
    }

    package func rpo(_ scope: CellExposure.Scope) -> Nanoseconds? { scope == .zone ? rpoZone : rpoRegion }
}

extension CellExposure {
    /// The promises that are not kept as it is, in the order of their kinds, each with what the worst loss would cost.
    package func risks(_ promise: CellPromise) -> [CellRiskWatch.Found] {
        var found: [CellRiskWatch.Found] = []
        for scope in Scope.allCases {
            guard let most = promise.rpo(scope) else { continue }
            let kind = scope == .zone ? CellRisk.Kind.rpoZone : .rpoRegion
            let all = losses.filter { $0.scope == scope }
            if all.isEmpty {
                let text = "its nodes name no \(scope), and nobody knows what would be lost with one"
                found.append(CellRiskWatch.Found(kind, text))
            } else if let worst = all.filter({ !$0.keeps(most) }).max(by: CellExposure.isLess) {
                found.append(CellRiskWatch.Found(kind, CellExposure.text(worst, most)))
            }
        }
        let scopes: [Scope] =
            switch promise.survives {
            case .zone: [.zone]
            case .region: [.zone, .region]
            case nil: []
            }
        if let stopped = losses.first(where: { scopes.contains($0.scope) && !$0.goesOn }) {
            found.append(
                CellRiskWatch.Found(
                    .survival,
                    "without \(stopped.place) it would have no majority, and its VMs would wait: "
                        + "\(CellExposure.replicas(stopped.elsewhere)) elsewhere \(stopped.elsewhere == 1 ? "answers" : "answer")"
                ))
        }
        return found
    }

    private static func isLess(_ a: Loss, _ b: Loss) -> Bool {
        if (a.entries == nil) != (b.entries == nil) { return b.entries == nil }
        return a.lag < b.lag
    }

    private static func replicas(_ count: Int) -> String {
        count == 0 ? "no replica" : count == 1 ? "1 replica" : "\(count) replicas"
    }

    private static func text(_ loss: Loss, _ most: Nanoseconds) -> String {
        let head = "with \(loss.place)"
        let declared = "; declared is \(Objective.within(most).text)"
        guard let entries = loss.entries else {
            return "\(head) all that was acknowledged could be lost: no replica elsewhere answers\(declared)"
        }
        if entries == 0 {
            return
                "\(head) what is acknowledged next could be lost: a majority is there, and waits for nobody elsewhere\(declared)"
        }
        return
            "\(head) what was acknowledged in the last \(seconds(loss.lag)) could be lost, \(entries) "
            + "\(entries == 1 ? "entry" : "entries"): the newest log elsewhere is \(loss.best)'s\(declared)"
    }

    package static func seconds(_ time: Nanoseconds) -> String {
        let tenths = (time.milliseconds + 99) / 100
        return "\(tenths / 10).\(tenths % 10) s"
    }
}

/// When a group's entries were committed, told apart by the looks at it: an entry's time is that of the look before it was seen, so
/// that no age is told too short.
package struct CommitTimes: Hashable, Sendable {
    package static let countMax = 128

    private struct Look: Hashable, Sendable {
        /// Committed by then, and not by the look before.
        var upTo: LogIndex
        /// When the look before was.
        var since: Instant
    }
    private var looks: [Look] = []
    private var seen: LogIndex
    private var seenAt: Instant

    /// Of what is committed by now only that is known.
    package init(_ commit: LogIndex, now: Instant) {
        seen = commit
        seenAt = now
        looks = [Look(upTo: commit, since: now)]
    }

    /// Takes in how far the group is. What everybody has, up to `least`, is forgotten.
    package mutating func note(_ commit: LogIndex, least: LogIndex, now: Instant) {
        if commit > seen {
            looks.append(Look(upTo: commit, since: seenAt))
            seen = commit
        }
        seenAt = now
        looks.removeAll { $0.upTo <= least }
        if looks.count > CommitTimes.countMax { thin(now) }
    }

    /// Two that follow each other become one: those that are least apart, against how long ago they were.
    private mutating func thin(_ now: Instant) {
        var (least, at) = (Double.infinity, 1)
        for i in 1..<looks.count {
            let since = looks[i - 1].since
            let end = i + 1 < looks.count ? looks[i + 1].since : now
            let share = Double((end - since).count) / Double(max(1, (now - since).count))
            if share < least { (least, at) = (share, i) }
        }
        looks[at - 1].upTo = looks.remove(at: at).upTo
    }

    /// How old the entry behind `match` is at most; zero where none behind it is committed.
    package func age(after match: LogIndex, upTo commit: LogIndex, _ now: Instant) -> Nanoseconds {
        if match >= commit { return .zero }
        return now - (looks.first { $0.upTo > match }?.since ?? seenAt)
    }
}
