package import ClusterBase
package import FleetModel

/// What a space's results, pages and changes look like to a client.
package enum SpaceJSON {
    static let written = Shape(
        "Written",
        [
            Field("revision", .string, "the change's revision, index.slot"),
            Field("version", .integer, "how often the key was written since it was created"),
        ])

    static let deleted = Shape("Deleted", [Field("revision", .string, "the change's revision, index.slot")])

    static let record = Shape(
        "Record",
        [
            Field("key", .string, "percent-encoded, as it may stand in a URL"), Field("value", .bytes, "base64"),
            Field("created", .string, "the revision that created it"),
            Field("modified", .string, "the revision of its last change"),
            Field("version", .integer, "how often it was written since it was created"),
        ])

    static let page = Shape(
        "Page",
        [
            Field("revision", .string, "the state that was read; watch from here"),
            Field("keys", .objects(record), "in byte order"),
            Field("next", .string, isRequired: false, "there is more: ask again with after= this"),
        ])

    static let change = Shape(
        "Change",
        [
            Field("type", .string, "put, delete, progress, compacted or overdue"),
            Field("revision", .string, "the change's; for progress: every change up to here was sent"),
            Field("key", .string, isRequired: false, "percent-encoded"),
            Field("value", .bytes, isRequired: false, "base64, for put"),
            Field("created", .string, isRequired: false, "for put"),
            Field("version", .integer, isRequired: false, "for put"),
        ])

    /// One line of a watch.
    package static func writeLine(_ change: SpaceChange, into out: inout [UInt8]) {
        var writer = JSONWriter(appendingTo: take(&out))
        writer.beginObject()
        writer.name("type")
        switch change {
        case .written(let record):
            writer.string("put")
            writer.name("revision")
            writer.revision(record.modified)
            writer.name("key")
            writer.percent(record.key)
            writer.name("value")
            writer.base64(record.value)
            writer.name("created")
            writer.revision(record.created)
            writer.name("version")
            writer.integer(record.version)
        case .deleted(let key, let revision):
            writer.string("delete")
            writer.name("revision")
            writer.revision(revision)
            writer.name("key")
            writer.percent(key)
        }
        writer.endObject()
        writer.endLine()
        out = writer.finish()
    }

    /// A line that says that every change up to `revision` was sent: where to resume.
    package static func writeProgress(_ revision: Revision, into out: inout [UInt8]) {
        writeMark("progress", revision, &out)
    }

    /// A watch's last line, when changes up to `revision` are gone that it has not sent.
    package static func writeCompacted(_ revision: Revision, into out: inout [UInt8]) {
        writeMark("compacted", revision, &out)
    }

    /// A watch's last line, when its reader has not read what was sent in time. Up to `revision` everything was.
    package static func writeOverdue(_ revision: Revision, into out: inout [UInt8]) {
        writeMark("overdue", revision, &out)
    }

    private static func writeMark(_ type: String, _ revision: Revision, _ out: inout [UInt8]) {
        var writer = JSONWriter(appendingTo: take(&out))
        writer.beginObject()
        writer.name("type")
        writer.string(type)
        writer.name("revision")
        writer.revision(revision)
        writer.endObject()
        writer.endLine()
        out = writer.finish()
    }

    /// Leaves an empty buffer behind, so that the writer owns the only reference.
    private static func take(_ out: inout [UInt8]) -> [UInt8] {
        let taken = out
        out = []
        return taken
    }

    package static func page(_ records: [SpaceRecord], next: [UInt8]?, _ revision: Revision) -> [UInt8] {
        var writer = JSONWriter()
        writer.beginObject()
        writer.name("revision")
        writer.revision(revision)
        writer.name("keys")
        writer.beginArray()
        for record in records {
            writer.beginObject()
            writer.name("key")
            writer.percent(record.key)
            writer.name("value")
            writer.base64(record.value)
            writer.name("created")
            writer.revision(record.created)
            writer.name("modified")
            writer.revision(record.modified)
            writer.name("version")
            writer.integer(record.version)
            writer.endObject()
        }
        writer.endArray()
        if let next {
            writer.name("next")
            writer.percent(next)
        }
        writer.endObject()
        return writer.finish()
    }

    /// Reads a page's body back.
    package static func readPage(
        _ body: ArraySlice<UInt8>
    ) throws(Problem) -> (records: [SpaceRecord], next: [UInt8]?, revision: Revision) {
        let json = try parse(body)
        var records: [SpaceRecord] = []
        for element in json["keys"]?.elements ?? [] {
            guard let key = percent(element["key"]),
                let value = element["value"]?.text.flatMap({ Base64.decode($0.utf8) }),
                let created = revision(element["created"]), let modified = revision(element["modified"]),
                let version = element["version"]?.integer
            else { throw unreadable }
            records.append(
                SpaceRecord(key: key, value: value, created: created, modified: modified, version: UInt64(version)))
        }
        guard let revision = revision(json["revision"]) else { throw unreadable }
        return (records, percent(json["next"]), revision)
    }

    /// What a line of a watch says.
    package enum Line: Hashable, Sendable {
        case change(SpaceChange)
        case progress(Revision)
        case compacted(Revision)
        case overdue(Revision)
    }

    /// Reads a watch's line back, with or without its end.
    package static func parseLine(_ line: ArraySlice<UInt8>) throws(Problem) -> Line {
        let json = try parse(line)
        guard let revision = revision(json["revision"]) else { throw unreadable }
        switch json["type"]?.text {
        case "progress": return .progress(revision)
        case "compacted": return .compacted(revision)
        case "overdue": return .overdue(revision)
        case "delete":
            guard let key = percent(json["key"]) else { throw unreadable }
            return .change(.deleted(key: key, revision))
        case "put":
            guard let key = percent(json["key"]), let value = json["value"]?.text.flatMap({ Base64.decode($0.utf8) }),
                let created = self.revision(json["created"]), let version = json["version"]?.integer
            else { throw unreadable }
            return .change(
                .written(
                    SpaceRecord(
                        key: key, value: value, created: created, modified: revision, version: UInt64(version))))
        default: throw unreadable
        }
    }

    private static func parse(_ bytes: ArraySlice<UInt8>) throws(Problem) -> JSONValue {
        do throws(JSONFault) {
            return try JSONParser.parse(bytes, depthMax: 8, valuesMax: 1 << 20)
        } catch {
            throw Problem(.internal, "the answer can't be read: \(error)")
        }
    }

    private static let unreadable = Problem(
        .internal, "the answer has not the members it should have; check that both sides run versions that fit")

    private static func revision(_ value: JSONValue?) -> Revision? {
        value?.text.flatMap { Revision(text: Array($0.utf8)[...]) }
    }

    private static func percent(_ value: JSONValue?) -> [UInt8]? {
        value?.text.flatMap { PercentCoding.decode(Array($0.utf8)[...]) }
    }
}

extension JSONWriter {
    mutating func revision(_ revision: Revision) { string(revision.description) }
}

extension Problem {
    /// A command or query that was not carried out.
    package init(_ refusal: SpaceRefusal) {
        switch refusal {
        case .sessionUnknown(let born):
            self.init(
                .retryUnknown, refusal.description, members: [JSONMember("bornAtLeast", born.rawValue)])
        case .sequenceTooOld(let through):
            self.init(.retryUnknown, refusal.description, members: [JSONMember("through", through)])
        case .valueTooLong, .packTooLarge: self.init(.bodyTooLarge, refusal.description)
        case .ended: self.init(.spaceNotFound, refusal.description)
        case .tooManyLocks: self.init(.notPossible, refusal.description)
        case .lockLost: self.init(.conflict, refusal.description)
        default: self.init(.malformed, refusal.description)
        }
    }

    /// What a read or a write of a space that nobody knows gets.
    package static func noSpace(_ name: String) -> Problem {
        Problem(.spaceNotFound, "there is no space \(name); create it with POST /v1/spaces or `muster space create`")
    }
}

extension AdminResponse {
    /// The answer to a write.
    package init(_ result: SpaceResult) {
        let index = result.revision.index
        switch result.outcome {
        case .written(let version):
            self.init(.json, .written(result.revision, version: version), index: index, revision: result.revision)
        case .deleted:
            self.init(
                .json, .bytes(Array("{\"revision\":\"\(result.revision)\"}".utf8)), index: index,
                revision: result.revision)
        case .notFound:
            self.init(Problem(.keyNotFound, "the key is not there; nothing was deleted"))
        case .conflict(let modified?):
            self.init(
                Problem(
                    .conflict, "the key's last change is \(modified); read it, decide again, and send that revision",
                    members: [JSONMember("modified", modified.description)]))
        case .conflict(nil):
            self.init(
                Problem(.conflict, "the key is not there; decide again, and send prev-revision=0 to create it"))
        case .held(let token): self.init(LockHeld(token: token))
        case .taken(let token):
            self.init(
                Problem(
                    .conflict,
                    "another owner holds the lock, under token \(token.rawValue); try again, or ask who it is",
                    members: [JSONMember("token", token.rawValue)]))
        case .refused(let refusal): self.init(Problem(refusal))
        }
        self.index = index
    }

    /// The answer to a read or a list. `age`: how old a stale one may be.
    package init(_ answer: SpaceAnswer, age: Nanoseconds? = nil) {
        switch answer.body {
        case .record(let record?):
            self.init(.bytes, .bytes(record.value), revision: record.modified, version: record.version)
        case .record(nil): self.init(Problem(.keyNotFound, "the key is not there; write it first"))
        case .page(let records, let next):
            self.init(.json, .bytes(SpaceJSON.page(records, next: next, answer.revision)))
        case .changes(let changes, let through):
            var lines: [UInt8] = []
            for change in changes { SpaceJSON.writeLine(change, into: &lines) }
            SpaceJSON.writeProgress(through, into: &lines)
            self.init(.jsonLines, .bytes(lines))
        case .compacted(let revision): self.init(SpaceJSON.compactedProblem(revision))
        case .locks(let locks, let next): self.init(LockPage(locks, next: next))
        case .refused(let refusal): self.init(Problem(refusal))
        }
        index = answer.revision.index
        self.age = age
    }
}

extension SpaceJSON {
    /// What a watch gets that begins before what is kept.
    package static func compactedProblem(_ revision: Revision) -> Problem {
        Problem(
            .compacted,
            "changes up to \(revision) are no longer kept; list the keys again, then watch from the list's revision",
            members: [JSONMember("compacted", revision.description)])
    }
}
