// What is set for the whole cluster.

/// A setting of the cluster.
package struct SettingInfo: Shaped {
    package var name: String
    package var value: Int64
    /// What it is when nobody changes it.
    package var standard: Int64
    /// `ms`, `bytes`, or empty for a count.
    package var unit: String
    /// What it decides, for people.
    package var summary: String

    package init(name: String, value: Int64, standard: Int64, unit: String, summary: String) {
        self.name = name
        self.value = value
        self.standard = standard
        self.unit = unit
        self.summary = summary
    }

    package static let shape = Shape(
        "Setting",
        [
            Field("name", .string, "its name"), Field("value", .integer, "what it is"),
            Field("standard", .integer, "what it is when nobody changes it"),
            Field("unit", .string, "ms, bytes, or empty for a count"), Field("summary", .string, "what it decides"),
        ])

    package var members: [JSONMember] {
        [
            JSONMember("name", name), JSONMember("value", value), JSONMember("standard", standard),
            JSONMember("unit", unit), JSONMember("summary", summary),
        ]
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            name: object.text("name"), value: object.integer("value"), standard: object.integer("standard"),
            unit: object.text("unit"), summary: object.text("summary"))
    }
}

/// `PUT /v1/settings/{setting}`.
package struct SettingChange: Shaped {
    package var value: Int64
    package init(value: Int64) { self.value = value }
    package static let shape = Shape(
        "SettingChange", [Field("value", .range(0, .max), "what it is from now on, in the setting's unit")])
    package var members: [JSONMember] { [JSONMember("value", value)] }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(value: object.integer("value"))
    }
}
