package import FleetModel

// Amounts, labels and what else hosts and VMs have in common. What a request leaves out is 0 or empty.

extension Resources: Shaped {
    package static let shape = Shape("Resources", fields)

    static let fields = [
        Field("cpuMillis", .range(0, amountMax), isRequired: false, "thousandths of a core"),
        Field("memoryMiB", .range(0, amountMax), isRequired: false, "memory in MiB"),
        Field("diskMiB", .range(0, amountMax), isRequired: false, "the host's own disk, in MiB"),
        Field("networkMbps", .range(0, amountMax), isRequired: false, "bandwidth in Mbit/s"),
    ]

    package var members: [JSONMember] {
        [
            JSONMember("cpuMillis", cpuMillis), JSONMember("memoryMiB", memoryMiB), JSONMember("diskMiB", diskMiB),
            JSONMember("networkMbps", networkMbps),
        ]
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            cpuMillis: object.integer("cpuMillis"), memoryMiB: object.integer("memoryMiB"),
            diskMiB: object.integer("diskMiB"), networkMbps: object.integer("networkMbps"))
    }

    /// Amounts that may be below zero: what is free on a host that lost a part.
    package static let signed = Shape(
        "SignedResources",
        fields.map {
            Field($0.name, .integer, isRequired: false, $0.summary + "; below zero where too much is promised")
        })
}

/// Resources in an answer, any of which may be negative.
package struct SignedResources: Shaped {
    package var amount: Resources
    package init(_ amount: Resources) { self.amount = amount }
    package static let shape = Resources.signed
    package var members: [JSONMember] { amount.members }
    package init(_ object: ShapedObject) throws(Problem) { amount = try Resources(object) }
}

extension ShapedObject {
    /// The pairs of an object of strings, ascending by key.
    func pairs(_ name: String) -> [Named] {
        (json[name]?.members ?? []).map { Named($0.name, $0.value.text ?? "") }.sorted()
    }
}

extension JSONMember {
    init(_ name: String, pairs: [Named]) {
        self.init(name, .object(pairs.map { JSONMember($0.key, .string($0.value)) }))
    }
    init(_ name: String, integers: [some BinaryInteger]) {
        self.init(name, .array(integers.map { .integer(Int64(clamping: $0)) }))
    }
    init(_ name: String, _ number: Double) { self.init(name, .number(number)) }
    init(_ name: String, _ shaped: some Shaped) { self.init(name, shaped.json) }
}

extension LogTime {
    /// Seconds since 1970, as answers say times; 0 is never.
    package var seconds: Int64 { Int64(clamping: rawValue / 1_000) }
    /// The same with milliseconds.
    package var exactSeconds: Double { Double(rawValue) / 1_000 }
}

/// A word for each case of an enumeration, in both directions.
struct Words<Value: Hashable & Sendable>: Sendable {
    let pairs: [(word: String, value: Value)]
    init(_ pairs: [(String, Value)]) { self.pairs = pairs.map { (word: $0.0, value: $0.1) } }
    var all: [String] { pairs.map(\.word) }
    subscript(value: Value) -> String { pairs.first { $0.value == value }?.word ?? "" }
    subscript(word: String) -> Value? { pairs.first { $0.word == word }?.value }
}

/// The words of the fleet, as bodies, filters and the command line use them.
package enum FleetWords {
    static let power = Words<CellVM.Power>([("running", .running), ("paused", .paused), ("stopped", .stopped)])
    static let phase = Words<CellVM.Phase>([
        ("waiting", .waiting), ("starting", .starting), ("running", .running), ("paused", .paused),
        ("stopping", .stopping), ("stopped", .stopped), ("crashed", .crashed), ("looping", .looping),
        ("unknown", .unknown),
    ])
    static let duty = Words<CellHost.Duty>([
        ("in-service", .inService), ("cordoned", .cordoned), ("draining", .draining), ("maintenance", .maintenance),
    ])
    static let health = Words<CellHost.Health>([("up", .up), ("down", .down), ("removed", .removed), ("away", .away)])
    static let state = Words<HostState>([
        ("ready", .ready), ("cordoned", .cordoned), ("draining", .draining), ("maintenance", .maintenance),
        ("down", .down),
    ])
    static let restart = Words<VMDescription.Restart>([
        ("always", .always), ("on-failure", .onFailure), ("never", .never),
    ])
    static let isolation = Words<VMDescription.Isolation>([("stop", .stop), ("keep", .keep)])
    static let cellChoice = Words<VMDescription.CellChoice>([("near", .near), ("cheap", .cheap)])
    static let regionLoss = Words<VMDescription.RegionLoss>([
        ("home-only", .homeOnly), ("may-move", .mayMove), ("must-move", .mustMove),
    ])
    static let regionReturn = Words<Bool>([("stay", false), ("return", true)])
    static let scope = Words<PlacementGroup.Scope>([("host", .host), ("rack", .rack), ("zone", .zone)])
    static let effect = Words<Taint.Effect>([("no-placement", .noPlacement), ("avoid", .avoid)])
    static let migrationPhase = Words<Migration.Phase>([
        ("copying", .copying), ("leaving", .leaving), ("undoing", .undoing),
    ])
    static let cause = Words<Migration.Cause>([
        ("asked", .asked), ("drain", .drain), ("rebalance", .rebalance), ("preemption", .preemption),
        ("return", .return), ("capacity", .capacity),
    ])
    static let hostReturn = Words<HostReturn>([("none", .none), ("lazy", .lazy), ("all", .all)])
    static let intent = Words<MoveIntent>(MoveIntent.allCases.map { ($0.word, $0) })
    static let policy = Words<PlacementPolicy>([("pack", .pack), ("balance", .balance), ("spread", .spread)])

    package static func word(_ value: CellVM.Phase) -> String { phase[value] }
    package static func word(_ value: CellVM.Power) -> String { power[value] }
    package static func word(_ value: HostState) -> String { state[value] }
    package static func word(_ value: CellHost.Duty) -> String { duty[value] }
    package static var phases: [String] { phase.all }
    package static var states: [String] { state.all }
}
