package import ClusterBase
package import FleetModel

// `GET /v1/regions/{region}/rehearsal`: what the loss of a region would bring, or a plan for it does, cell by cell.

/// A cell in a rehearsal.
package struct RehearsedCell: Shaped {
    package var cell: String
    package var goesOn: Bool
    /// Its leader is on a node of the region.
    package var leaderIsThere: Bool
    /// Of the state that it rests on.
    package var index: UInt64
    package var hosts: Int64
    package var vms: Int64
    package var waitedBefore: Int64
    package var restart: Int64
    package var migrate: Int64
    package var moved: Int64
    package var moving: Int64
    package var preempted: Int64
    package var away: Int64
    package var wait: Int64
    package var waves: Int64
    package var silenceMillis: Int64
    package var atLeastMillis: Int64
    package var isComplete: Bool
    /// Nil where nothing has moved lately.
    package var expectedMillis: Int64?
    package var beyond: Int64
    package var wavesBeyond: Int64

    package init(
        _ found: CellRehearsal, cell: String, leaderIsThere: Bool, pace: Nanoseconds, detection: Nanoseconds
    ) {
        self.cell = cell
        goesOn = found.goesOn
        self.leaderIsThere = leaderIsThere
        index = found.through.rawValue
        hosts = Int64(found.hosts)
        vms = Int64(found.vms)
        waitedBefore = Int64(found.waitedBefore)
        restart = Int64(found.restarted)
        migrate = Int64(found.migrated)
        moved = Int64(found.moved)
        moving = Int64(found.moving)
        preempted = Int64(found.preempted)
        away = Int64(found.away)
        wait = Int64(found.waiting)
        waves = Int64(found.waves)
        silenceMillis = found.silence.milliseconds
        // Nothing moves where nobody goes on, nor before the last host of the region is given up.
        let isMoving = found.restarted + found.migrated + found.away > 0
        atLeastMillis = isMoving ? silenceMillis + pace.milliseconds * max(0, waves - 1) : 0
        isComplete = found.isComplete
        beyond = Int64(found.beyond)
        wavesBeyond = Int64(found.wavesBeyond)
        expectedMillis = found.expected(interval: pace, detection: detection)?.milliseconds
    }

    package static let shape = Shape(
        "RehearsedCell",
        [
            Field("cell", .string, "its name"),
            Field("goesOn", .boolean, "its group has a majority without the region; else all its VMs would wait"),
            Field(
                "leaderIsThere", .boolean,
                "its leader is in the region: another one counts the silence from its election on"),
            Field("index", .integer, "of the state that this rests on"),
            Field("hosts", .integer, "hosts of the region in it"),
            Field(
                "vms", .integer,
                "VMs on them that are meant to run; where it does not go on, all of its VMs with a place"),
            Field("waitedBefore", .integer, "VMs that wait for a place already, and are counted below too"),
            Field("restart", .integer, "VMs that would start on other hosts of the cell"),
            Field("migrate", .integer, "of a plan: VMs that go to other hosts of the cell while they run"),
            Field("moved", .integer, "of an evacuation: VMs that have left the region by it and are in this cell now"),
            Field("moving", .integer, "of a plan: VMs that are on their way to other cells; they are in away, too"),
            Field("preempted", .integer, "VMs on other hosts that would be stopped to make room"),
            Field("away", .integer, "VMs that would go to cells of other regions"),
            Field("wait", .integer, "VMs that would wait"),
            Field("waves", .integer, "plans that send VMs away, each as many as may be on their way at a time"),
            Field(
                "silenceMillis", .integer,
                "a host is given up when it was silent for so long, so that its lease has ended"),
            Field(
                "atLeastMillis", .integer,
                "from the silence to the last wave, were each done when the next is planned; 0 where nothing starts elsewhere"
            ),
            Field("isComplete", .boolean, "no bound ended it"),
            Field(
                "expectedMillis", .integer, isRequired: false,
                "how long all of it takes if moves take as long as they did lately in this cell, from the loss with region-lost-after, or "
                    + "of a plan from now; left out where none moved since its leader took over"),
            Field("beyond", .integer, "where a bound ended it: VMs counted in wait that would go in later waves"),
            Field("wavesBeyond", .integer, "about how many waves these are"),
        ])
    package var members: [JSONMember] {
        var members = [
            JSONMember("cell", cell), JSONMember("goesOn", goesOn), JSONMember("leaderIsThere", leaderIsThere),
            JSONMember("index", index), JSONMember("hosts", hosts), JSONMember("vms", vms),
            JSONMember("waitedBefore", waitedBefore), JSONMember("restart", restart),
            JSONMember("migrate", migrate), JSONMember("moved", moved), JSONMember("moving", moving),
            JSONMember("preempted", preempted), JSONMember("away", away), JSONMember("wait", wait),
            JSONMember("waves", waves), JSONMember("silenceMillis", silenceMillis),
            JSONMember("atLeastMillis", atLeastMillis), JSONMember("isComplete", isComplete),
            JSONMember("beyond", beyond), JSONMember("wavesBeyond", wavesBeyond),
        ]
        members.add("expectedMillis", expectedMillis)
        return members
    }
    package init(_ object: ShapedObject) throws(Problem) {
        cell = object.text("cell")
        goesOn = object.bool("goesOn")
        leaderIsThere = object.bool("leaderIsThere")
        index = object.unsigned("index")
        hosts = object.integer("hosts")
        vms = object.integer("vms")
        waitedBefore = object.integer("waitedBefore")
        restart = object.integer("restart")
        migrate = object.integer("migrate")
        moved = object.integer("moved")
        moving = object.integer("moving")
        preempted = object.integer("preempted")
        away = object.integer("away")
        wait = object.integer("wait")
        waves = object.integer("waves")
        silenceMillis = object.integer("silenceMillis")
        atLeastMillis = object.integer("atLeastMillis")
        isComplete = object.bool("isComplete")
        expectedMillis = object.optionalInteger("expectedMillis")
        beyond = object.integer("beyond")
        wavesBeyond = object.integer("wavesBeyond")
    }
}

/// A cell that VMs would go to.
package struct RehearsalTarget: Shaped {
    package var cell: String
    package var region: String
    package var vms: Int64
    package var demand: Resources
    package var free: SignedResources
    package var ageMillis: Int64
    /// Those that send do not know of each other.
    package var isOverbooked: Bool { !free.amount.holds(demand) }

    package init(_ target: CellRehearsal.Target, now: LogTime) {
        cell = target.name
        region = target.region
        vms = Int64(target.vms)
        demand = target.demand
        free = SignedResources(target.free)
        ageMillis = Int64(clamping: now.rawValue - min(now.rawValue, target.at.rawValue))
    }

    package static let shape = Shape(
        "RehearsalTarget",
        [
            Field("cell", .string, "its name"), Field("region", .string, "its region"),
            Field("vms", .integer, "VMs that would go there"),
            Field("demand", .object(Resources.shape), "what they take together"),
            Field("free", .object(SignedResources.shape), "what it said last that it has free"),
            Field("ageMillis", .integer, "how long ago it said so; it says it again when much has changed"),
            Field(
                "isOverbooked", .boolean,
                "cells that do not know of each other would send it more than that: it says no to the rest, which tries others"
            ),
        ])
    package var members: [JSONMember] {
        [
            JSONMember("cell", cell), JSONMember("region", region), JSONMember("vms", vms),
            JSONMember("demand", demand), JSONMember("free", free), JSONMember("ageMillis", ageMillis),
            JSONMember("isOverbooked", isOverbooked),
        ]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        cell = object.text("cell")
        region = object.text("region")
        vms = object.integer("vms")
        demand = try object.object("demand") ?? .zero
        free = try object.object("free") ?? SignedResources(.zero)
        ageMillis = object.integer("ageMillis")
    }
}

/// How many VMs of a cell would wait for one reason.
package struct RehearsalWait: Shaped {
    package var cell: String
    package var cause: String
    package var vms: Int64
    package init(cell: String, cause: String, vms: Int64) {
        self.cell = cell
        self.cause = cause
        self.vms = vms
    }
    package static let shape = Shape(
        "RehearsalWait",
        [
            Field("cell", .string, "where they are"),
            Field("cause", .choice(CellRehearsal.Cause.allCases.map(\.rawValue)), "why"),
            Field("vms", .integer, "how many"),
        ])
    package var members: [JSONMember] {
        [JSONMember("cell", cell), JSONMember("cause", cause), JSONMember("vms", vms)]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(cell: object.text("cell"), cause: object.text("cause"), vms: object.integer("vms"))
    }
}

/// One VM's way in a rehearsal.
package struct RehearsalStep: Shaped {
    package var cell: String
    package var vm: String
    package var tenant: String
    package var fate: String
    package var to: String
    package var region: String
    package var wave: Int64
    package var cause: String?
    package var isPreempted: Bool
    package var text: String

    package init(_ step: CellRehearsal.Step, cell: String) {
        self.cell = cell
        vm = step.name
        tenant = step.tenant
        fate = step.fate.rawValue
        to = step.to
        region = step.region
        wave = Int64(step.wave)
        cause = step.cause?.rawValue
        isPreempted = step.isPreempted
        text = step.text
    }
    package static let shape = Shape(
        "RehearsalStep",
        [
            Field("cell", .string, "where it is"), Field("vm", .string, "the VM's name"),
            Field("tenant", .string, "its tenant"),
            Field(
                "fate", .choice(CellRehearsal.Fate.allCases.map(\.rawValue)),
                "restart on another host of its cell, migrate there, away to a cell of another region, or wait"),
            Field("to", .string, "the host or the cell; empty for one that waits"),
            Field("region", .string, "the other cell's; else empty"),
            Field("wave", .integer, "in which it goes away, from 1; else 0"),
            Field(
                "cause", .choice(CellRehearsal.Cause.allCases.map(\.rawValue)), isRequired: false,
                "why it waits"),
            Field("isPreempted", .boolean, "it ran elsewhere, and was stopped to make room for another"),
            Field("text", .string, "the same in words, as its row would say it"),
        ])
    package var members: [JSONMember] {
        var members = [
            JSONMember("cell", cell), JSONMember("vm", vm), JSONMember("tenant", tenant), JSONMember("fate", fate),
            JSONMember("to", to), JSONMember("region", region), JSONMember("wave", wave),
        ]
        members.add("cause", cause)
        members.append(JSONMember("isPreempted", isPreempted))
        members.append(JSONMember("text", text))
        return members
    }
    package init(_ object: ShapedObject) throws(Problem) {
        cell = object.text("cell")
        vm = object.text("vm")
        tenant = object.text("tenant")
        fate = object.text("fate")
        to = object.text("to")
        region = object.text("region")
        wave = object.integer("wave")
        cause = object.optionalText("cause")
        isPreempted = object.bool("isPreempted")
        text = object.text("text")
    }
}

/// What would become of VMs if a region were lost, or what a plan for it does.
package struct RegionRehearsal: Shaped {
    /// Of one answer; the rest is counted.
    package static let stepsMax = 4_096

    package var region: String
    package var kind = CellRehearsal.Kind.loss
    package var nodes: Int64
    /// Of these, what the node that was asked reaches.
    package var reached: Int64
    package var cells: [RehearsedCell]
    package var targets: [RehearsalTarget]
    package var waits: [RehearsalWait]
    package var steps: [RehearsalStep]
    package var stepsLeftOut: Int64
    /// Cells that did not answer, and why.
    package var unanswered: [String]
    /// What all of it rests on.
    package var notes: [String]

    package init(region: String, nodes: Int64 = 0, reached: Int64 = 0) {
        self.region = region
        self.nodes = nodes
        self.reached = reached
        cells = []
        targets = []
        waits = []
        steps = []
        stepsLeftOut = 0
        unanswered = []
        notes = []
    }

    /// One cell's part. `pace` is how far apart its plans are.
    package init(
        _ found: CellRehearsal, cell: String, leaderIsThere: Bool, pace: Nanoseconds, detection: Nanoseconds,
        now: LogTime
    ) {
        self.init(region: found.region)
        kind = found.kind
        cells = [RehearsedCell(found, cell: cell, leaderIsThere: leaderIsThere, pace: pace, detection: detection)]
        targets = found.targets.map { RehearsalTarget($0, now: now) }
        waits = found.waits.map { RehearsalWait(cell: cell, cause: $0.cause.rawValue, vms: Int64($0.vms)) }
        steps = found.steps.map { RehearsalStep($0, cell: cell) }
        stepsLeftOut = Int64(
            found.restarted + found.migrated + found.away + found.waiting - found.steps.count)
    }

    /// Puts another cell's part behind this.
    package mutating func add(_ part: RegionRehearsal) {
        cells += part.cells
        waits += part.waits
        for target in part.targets {
            if let at = targets.firstIndex(where: { $0.cell == target.cell }) {
                targets[at].vms += target.vms
                targets[at].demand += target.demand
            } else {
                targets.append(target)
            }
        }
        let told = part.steps.prefix(max(0, RegionRehearsal.stepsMax - steps.count))
        steps += told
        stepsLeftOut += part.stepsLeftOut + Int64(part.steps.count - told.count)
    }

    package static let shape = Shape(
        "RegionRehearsal",
        [
            Field("region", .string, "its name"),
            Field("kind", .choice(CellRehearsal.Kind.allCases.map(\.rawValue)), "what was rehearsed"),
            Field("nodes", .integer, "nodes that are in it"),
            Field(
                "reached", .integer,
                "of those, what the node that was asked reaches: hosts that are heard keep their VMs, whatever is declared"
            ),
            Field("cells", .objects(RehearsedCell.shape), "cells with hosts or voters there"),
            Field("targets", .objects(RehearsalTarget.shape), "cells that VMs would go to"),
            Field("waits", .objects(RehearsalWait.shape), "VMs that would wait, by reason"),
            Field("steps", .objects(RehearsalStep.shape), "VM by VM, as far as there is room"),
            Field("stepsLeftOut", .integer, "VMs that are counted and not in steps"),
            Field("unanswered", .strings, "cells that did not answer, and why: nothing is counted of them"),
            Field("notes", .strings, "what this rests on, and what it can't know"),
        ])
    package var members: [JSONMember] {
        [
            JSONMember("region", region), JSONMember("kind", kind.rawValue), JSONMember("nodes", nodes),
            JSONMember("reached", reached),
            JSONMember("cells", objects: cells), JSONMember("targets", objects: targets),
            JSONMember("waits", objects: waits), JSONMember("steps", objects: steps),
            JSONMember("stepsLeftOut", stepsLeftOut), JSONMember("unanswered", unanswered),
            JSONMember("notes", notes),
        ]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        region = object.text("region")
        kind = CellRehearsal.Kind(rawValue: object.text("kind")) ?? .loss
        nodes = object.integer("nodes")
        reached = object.integer("reached")
        cells = try object.objects("cells")
        targets = try object.objects("targets")
        waits = try object.objects("waits")
        steps = try object.objects("steps")
        stepsLeftOut = object.integer("stepsLeftOut")
        unanswered = object.strings("unanswered")
        notes = object.strings("notes")
    }
}
