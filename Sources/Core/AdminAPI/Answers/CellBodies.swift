/// `POST /v1/cells`.
package struct CellCreation: Shaped {
    package var name: String
    package var region: String?
    package var survives: String?
    /// How many nodes vote in its group; nil for what the cluster chooses.
    package var replicas: Int64?
    package init(name: String, region: String? = nil, survives: String? = nil, replicas: Int64? = nil) {
        self.name = name
        self.region = region
        self.survives = survives
        self.replicas = replicas
    }

    package static let shape = Shape(
        "CellCreation",
        [
            Field("name", .name, "1 to 63 letters, digits, dots, dashes and underscores"),
            Field("region", .string, isRequired: false, "where its hosts are"),
            Field(
                "survives", .choice(["zone", "region"]), isRequired: false,
                "zone: its group's voters are over its region's zones; region: over regions"),
            Field("replicas", .oneOf([1, 3, 5]), isRequired: false, "how many nodes vote in its group"),
        ])

    package var members: [JSONMember] {
        var members = [JSONMember("name", name)]
        members.add("region", region)
        members.add("survives", survives)
        members.add("replicas", replicas)
        return members
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            name: object.text("name"), region: object.optionalText("region"),
            survives: object.optionalText("survives"), replicas: object.optionalInteger("replicas"))
    }
}

/// `POST /v1/nodes/{node}/assign`.
package struct CellAssignment: Shaped {
    package var cell: String
    /// Nothing is changed: the answer says what would go, and a problem what prevents it.
    package var isDryRun: Bool
    package init(cell: String, isDryRun: Bool = false) {
        self.cell = cell
        self.isDryRun = isDryRun
    }
    package static let shape = Shape(
        "CellAssignment",
        [
            Field("cell", .name, "the cell that is to have the host; its own: what is under way is called off"),
            Field("dryRun", .boolean, isRequired: false, "say what would go, or what prevents it, and change nothing"),
        ])
    package var members: [JSONMember] {
        var members = [JSONMember("cell", cell)]
        if isDryRun { members.append(JSONMember("dryRun", .bool(true))) }
        return members
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(cell: object.text("cell"), isDryRun: object.bool("dryRun"))
    }
}

/// A cell as the root knows it.
package struct CellInfo: Shaped {
    package var name: String
    package var group: UInt64
    package var region: String
    /// `zone`, `region` or empty.
    package var survives: String
    /// Of the map that it came with.
    package var epoch: UInt64
    /// Hosts that are assigned to it.
    package var hosts: Int64
    /// Names of the nodes that hold its group.
    package var nodes: [String]
    /// Empty while nobody leads, or nobody is known to.
    package var leader: String
    package var state: String
    /// Promises that it does not keep, in words.
    package var risks: [String]
    /// The last by which hosts of it go to another cell; nil where there never was one.
    package var plan: HostsPlanInfo?

    package init(
        name: String, group: UInt64, region: String, survives: String, epoch: UInt64, hosts: Int64, nodes: [String],
        leader: String, state: String, risks: [String] = [], plan: HostsPlanInfo? = nil
    ) {
        self.name = name
        self.group = group
        self.region = region
        self.survives = survives
        self.epoch = epoch
        self.hosts = hosts
        self.nodes = nodes
        self.leader = leader
        self.state = state
        self.risks = risks
        self.plan = plan
    }

    package static let shape = Shape(
        "Cell",
        [
            Field("name", .string, "its name"), Field("group", .integer, "the number of its group"),
            Field("region", .string, "where its hosts are; empty for nowhere in particular"),
            Field(
                "survives", .string, "what its group goes on without: zone, region, or empty for what its spread bears"),
            Field("epoch", .integer, "of the map that it came with"),
            Field("hosts", .integer, "nodes that are assigned to it"),
            Field("nodes", .strings, "the nodes that hold its group"),
            Field("leader", .string, "the node that leads it, where one that has it says so at once"),
            Field("state", .string, "ready, creating or moving"),
            Field(
                "risks", .strings,
                "promises that it does not keep as it is, as its leader told the root; /v1/cells/{cell}/recovery says more"
            ),
            Field(
                "plan", .object(HostsPlanInfo.shape), isRequired: false,
                "the last by which hosts of it go to another cell"),
        ])

    package var members: [JSONMember] {
        var members = [
            JSONMember("name", name), JSONMember("group", group), JSONMember("region", region),
            JSONMember("survives", survives), JSONMember("epoch", epoch), JSONMember("hosts", hosts),
            JSONMember("nodes", nodes), JSONMember("leader", leader), JSONMember("state", state),
            JSONMember("risks", risks),
        ]
        if let plan { members.append(JSONMember("plan", .object(plan.members))) }
        return members
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            name: object.text("name"), group: object.unsigned("group"), region: object.text("region"),
            survives: object.text("survives"), epoch: object.unsigned("epoch"), hosts: object.integer("hosts"),
            nodes: object.strings("nodes"), leader: object.text("leader"), state: object.text("state"),
            risks: object.strings("risks"), plan: try object.object("plan"))
    }
}
