package import FleetModel

/// `POST /v1/regions/{region}/plan`.
package struct RegionPlanWish: Shaped {
    package var step: RegionPlan.Step
    /// Nil: as it was, or by the VMs' own policies.
    package var returns: RegionPlan.Returns?
    package init(_ step: RegionPlan.Step, returns: RegionPlan.Returns? = nil) {
        self.step = step
        self.returns = returns
    }

    private static let steps: [(String, RegionPlan.Step)] = [
        ("evacuate", .evacuate), ("return", .goBack), ("pause", .pause), ("resume", .resume), ("cancel", .cancel),
    ]
    package static let shape = Shape(
        "RegionPlanWish",
        [
            Field("step", .choice(steps.map(\.0)), "what is planned, or what becomes of the plan"),
            Field(
                "returns", .choice(RegionPlan.Returns.allCases.map(\.text)), isRequired: false,
                "who goes home when the region takes VMs again: none, those that are to by their own policy, or all that left it"
            ),
        ])

    package var members: [JSONMember] {
        var members = [JSONMember("step", RegionPlanWish.steps.first { $0.1 == step }?.0 ?? "")]
        members.add("returns", returns?.text)
        return members
    }

    package init(_ object: ShapedObject) throws(Problem) {
        let name = object.text("step")
        // The shape lets only these pass.
        step = RegionPlanWish.steps.first { $0.0 == name }?.1 ?? .cancel
        let text = object.optionalText("returns")
        returns = RegionPlan.Returns.allCases.first { $0.text == text }
    }
}

/// What is planned for a region.
package struct RegionPlanInfo: Shaped {
    /// `evacuate` or `return`.
    package var direction: String
    package var state: String
    package var returns: String
    package var number: UInt64
    /// Seconds since 1970.
    package var since: Int64
    package var changedAt: Int64
    package var by: String

    package init(_ plan: RegionPlan) {
        direction = plan.direction == .evacuate ? "evacuate" : "return"
        state =
            switch plan.state {
            case .running: "running"
            case .paused: "paused"
            case .cancelled: "cancelled"
            }
        returns = plan.returns.text
        number = plan.number
        since = Int64(plan.since.rawValue / 1_000)
        changedAt = Int64(plan.changedAt.rawValue / 1_000)
        by = plan.by
    }

    package static let shape = Shape(
        "RegionPlan",
        [
            Field("direction", .choice(["evacuate", "return"]), "VMs leave the region, or go back there"),
            Field(
                "state", .choice(["running", "paused", "cancelled"]),
                "paused: what is on its way goes on, nothing else begins, and a region that is evacuated takes nothing"),
            Field("returns", .choice(RegionPlan.Returns.allCases.map(\.text)), "who goes home"),
            Field("number", .integer, "the epoch that it began with"),
            Field("since", .integer, "when it began, in seconds since 1970"),
            Field("changedAt", .integer, "when it was changed last, in seconds since 1970"),
            Field("by", .string, "who changed it last"),
        ])
    package var members: [JSONMember] {
        [
            JSONMember("direction", direction), JSONMember("state", state), JSONMember("returns", returns),
            JSONMember("number", number), JSONMember("since", since), JSONMember("changedAt", changedAt),
            JSONMember("by", by),
        ]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        direction = object.text("direction")
        state = object.text("state")
        returns = object.text("returns")
        number = object.unsigned("number")
        since = object.integer("since")
        changedAt = object.integer("changedAt")
        by = object.text("by")
    }
}
