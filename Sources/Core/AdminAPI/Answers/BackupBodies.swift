// What is said about backups.

/// A group that belongs into a backup.
package struct BackupPart: Shaped {
    package var group: UInt64
    package var name: String
    /// Admin addresses of the nodes that hold it, the one that is asked first.
    package var addresses: [String]

    package init(group: UInt64, name: String, addresses: [String]) {
        self.group = group
        self.name = name
        self.addresses = addresses
    }

    package static let shape = Shape(
        "BackupPart",
        [
            Field("group", .integer, "its number"), Field("name", .string, "root, or the space's name"),
            Field("addresses", .strings, "where its state can be had: nodes' admin ports"),
        ])

    package var members: [JSONMember] {
        [JSONMember("group", group), JSONMember("name", name), JSONMember("addresses", addresses)]
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            group: object.unsigned("group"), name: object.text("name"), addresses: object.strings("addresses"))
    }
}

/// `GET /v1/backup`: what a backup has to hold. The root comes first.
package struct BackupPlan: Shaped {
    package var cluster: String
    package var name: String
    package var level: Int64
    package var groups: [BackupPart]

    package init(cluster: String, name: String, level: Int64, groups: [BackupPart]) {
        self.cluster = cluster
        self.name = name
        self.level = level
        self.groups = groups
    }

    package static let shape = Shape(
        "BackupPlan",
        [
            Field("cluster", .string, "the cluster's id"), Field("name", .string, "what people call it"),
            Field("level", .integer, "its feature level"),
            Field("groups", .objects(BackupPart.shape), "every group, the root first"),
        ])

    package var members: [JSONMember] {
        [
            JSONMember("cluster", cluster), JSONMember("name", name), JSONMember("level", level),
            JSONMember("groups", objects: groups),
        ]
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            cluster: object.text("cluster"), name: object.text("name"), level: object.integer("level"),
            groups: try object.objects("groups"))
    }
}

/// `PUT /v1/backup-schedules/{schedule}`.
package struct BackupSchedule: Shaped {
    package var everySeconds: Int64
    /// How many backups are kept.
    package var keep: Int64
    /// Where they go, on the node that takes them.
    package var directory: String
    /// The file that they are sealed with, on the nodes that take them.
    package var keyFile: String

    package init(everySeconds: Int64, keep: Int64, directory: String, keyFile: String) {
        self.everySeconds = everySeconds
        self.keep = keep
        self.directory = directory
        self.keyFile = keyFile
    }

    package static let shape = Shape(
        "BackupSchedule",
        [
            Field("everySeconds", .range(60, 1 << 40), "from one to the next"),
            Field("keep", .range(1, 1 << 31), "how many backups are kept"),
            Field(
                "directory", .text(pattern: Pattern.absolutePath),
                "where they go: an absolute path on the node that leads the root group"),
            Field(
                "keyFile", .text(pattern: Pattern.absolutePath),
                "the key that seals them: an absolute path on the same node"),
        ])

    package var members: [JSONMember] {
        [
            JSONMember("everySeconds", everySeconds), JSONMember("keep", keep), JSONMember("directory", directory),
            JSONMember("keyFile", keyFile),
        ]
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            everySeconds: object.integer("everySeconds"), keep: object.integer("keep"),
            directory: object.text("directory"), keyFile: object.text("keyFile"))
        if !directory.hasPrefix("/") || !keyFile.hasPrefix("/") {
            throw Problem(.malformed, "\"directory\" and \"keyFile\" are absolute paths; begin them with a slash")
        }
    }
}

/// A schedule, and how its last backup went.
package struct BackupScheduleInfo: Shaped {
    package var name: String
    package var schedule: BackupSchedule
    package var finished: Int64
    package var succeeded: Int64
    package var outcome: String

    package init(name: String, schedule: BackupSchedule, finished: Int64, succeeded: Int64, outcome: String) {
        self.name = name
        self.schedule = schedule
        self.finished = finished
        self.succeeded = succeeded
        self.outcome = outcome
    }

    package static let shape = Shape(
        "BackupScheduleInfo",
        [Field("name", .string, "its name")] + BackupSchedule.shape.fields + [
            Field("finished", .integer, "when the last one ended; seconds since 1970"),
            Field("succeeded", .integer, "when the last good one ended; seconds since 1970"),
            Field("outcome", .string, "what became of the last one"),
        ])

    package var members: [JSONMember] {
        [JSONMember("name", name)] + schedule.members + [
            JSONMember("finished", finished), JSONMember("succeeded", succeeded), JSONMember("outcome", outcome),
        ]
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            name: object.text("name"), schedule: try BackupSchedule(object), finished: object.integer("finished"),
            succeeded: object.integer("succeeded"), outcome: object.text("outcome"))
    }
}
