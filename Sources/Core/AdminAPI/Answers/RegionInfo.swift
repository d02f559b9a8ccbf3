/// A region as the root knows it, and what its loss would mean.
package struct RegionInfo: Shaped {
    package var name: String
    /// `there` or `lost`.
    package var state: String
    /// Of what was last declared of it; 0 for nothing.
    package var epoch: UInt64
    /// Since when it is lost, or back; 0 where nothing was declared. Seconds since 1970.
    package var since: Int64
    /// Who declared that; empty for the cluster by itself.
    package var by: String
    package var nodes: Int64
    /// Of those, what the node that was asked reaches.
    package var reached: Int64
    /// Cells whose group goes on without it, and those whose does not.
    package var goOn: [String]
    package var wait: [String]
    /// The last; nil where nothing ever was planned.
    package var plan: RegionPlanInfo?
    /// Of the ways to other regions, those of which something is known.
    package var latencies: [RegionLatencyInfo]

    package init(
        name: String, state: String, epoch: UInt64, since: Int64, by: String, nodes: Int64, reached: Int64,
        goOn: [String], wait: [String], plan: RegionPlanInfo? = nil,
        latencies: [RegionLatencyInfo] = []
    ) {
        self.name = name
        self.state = state
        self.epoch = epoch
        self.since = since
        self.by = by
        self.nodes = nodes
        self.reached = reached
        self.goOn = goOn
        self.wait = wait
        self.plan = plan
        self.latencies = latencies
    }

    package static let shape = Shape(
        "Region",
        [
            Field("name", .string, "its name"),
            Field("state", .choice(["there", "lost"]), "whether it counts as lost"),
            Field("epoch", .integer, "of what was last declared of it; 0 for nothing"),
            Field(
                "since", .integer, "since when it is lost or back, in seconds since 1970; 0 where nothing was declared"),
            Field("by", .string, "who declared that; empty for the cluster by itself, or nobody"),
            Field("nodes", .integer, "nodes that are in it"),
            Field("reached", .integer, "of those, what the node that was asked reaches"),
            Field("goOn", .strings, "cells with hosts or voters there whose group goes on without it"),
            Field("wait", .strings, "cells whose group has no majority without it: their VMs wait for it"),
            Field("plan", .object(RegionPlanInfo.shape), isRequired: false, "the last that was planned for it"),
            Field(
                "latencies", .objects(RegionLatencyInfo.shape), isRequired: false,
                "round trips to other regions, as far as they are known"),
        ])

    package var members: [JSONMember] {
        var members = [
            JSONMember("name", name), JSONMember("state", state), JSONMember("epoch", epoch),
            JSONMember("since", since),
            JSONMember("by", by), JSONMember("nodes", nodes), JSONMember("reached", reached), JSONMember("goOn", goOn),
            JSONMember("wait", wait),
        ]
        if let plan { members.append(JSONMember("plan", .object(plan.members))) }
        members.add("latencies", objects: latencies)
        return members
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            name: object.text("name"), state: object.text("state"), epoch: object.unsigned("epoch"),
            since: object.integer("since"), by: object.text("by"), nodes: object.integer("nodes"),
            reached: object.integer("reached"), goOn: object.strings("goOn"), wait: object.strings("wait"),
            plan: try object.object("plan"), latencies: try object.objects("latencies"))
    }
}
