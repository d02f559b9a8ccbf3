internal import ClusterBase
package import FleetModel

/// Something that happened, as a list, a watch and the audit show it.
package struct EventInfo: Shaped {
    package var revision: String
    /// Seconds since 1970, with milliseconds.
    package var time: Double
    package var kind: String
    package var tenant: String
    package var vm: String
    package var host: String
    package var by: String
    package var text: String

    package init(_ event: CellEvent) {
        revision = event.revision.description
        time = event.time.exactSeconds
        kind = event.kind
        tenant = event.tenant
        vm = event.vm
        host = event.host
        by = event.by
        text = event.text
    }

    package static let shape = Shape(
        "Event",
        [
            Field("revision", .string, "index.slot; watch from here"),
            Field("time", .number, "seconds since 1970, with milliseconds"),
            Field("kind", .string, "vm.created, vm.placed, host.down and so on"),
            Field("tenant", .string, "whose; empty for what is nobody's"),
            Field("vm", .string, "the VM's name; empty for none"),
            Field("host", .string, "the host's name; empty for none"),
            Field("by", .string, "who asked, and from where"), Field("text", .string, "what happened"),
        ])

    package var members: [JSONMember] {
        [
            JSONMember("revision", revision), JSONMember("time", time), JSONMember("kind", kind),
            JSONMember("tenant", tenant), JSONMember("vm", vm), JSONMember("host", host), JSONMember("by", by),
            JSONMember("text", text),
        ]
    }

    package init(_ object: ShapedObject) throws(Problem) {
        revision = object.text("revision")
        time = object.number("time")
        kind = object.text("kind")
        tenant = object.text("tenant")
        vm = object.text("vm")
        host = object.text("host")
        by = object.text("by")
        text = object.text("text")
    }
}

/// A line of a watch: a thing as it is after its last change, or a mark.
package enum WatchLine {
    package enum Kind: String, Hashable, Sendable, CaseIterable {
        /// The thing is there, as in `item`.
        case put
        /// It is gone.
        case delete
        /// It is there, and the filter does not let it through, or no more.
        case out
        /// Something happened.
        case event
        /// Everything up to here was sent: where to resume.
        case progress
        /// The last line: changes up to here are gone that were not sent. List again, then watch from the list's index.
        case compacted
        /// The last line: what was sent was not read in time. Resume from here.
        case overdue
    }

    static let shape = Shape(
        "WatchLine",
        [
            Field("type", .choice(Kind.allCases.map(\.rawValue)), "what the line says"),
            Field("revision", .string, "up to where everything was sent when this line is done; resume from it"),
            Field("id", .integer, isRequired: false, "of what was deleted or is filtered out"),
            Field("item", .anyObject, isRequired: false, "what a list would show"),
        ])

    /// Writes one line, or one server-sent event. `id` of the latter is the revision, so that a browser resumes by itself.
    package static func write(
        _ kind: Kind, revision: Revision, id: UInt64? = nil, item: JSONValue? = nil, asEvents: Bool,
        into out: inout [UInt8]
    ) {
        if asEvents {
            // Several events of one entry may have one revision: only where all were sent may be resumed from.
            if kind == .progress { out.append(text: "id: \(revision)\n") }
            out.append(text: "event: \(kind.rawValue)\ndata: ")
        }
        var members = [
            JSONMember("type", .string(kind.rawValue)), JSONMember("revision", .string(revision.description)),
        ]
        if let id { members.append(JSONMember("id", id)) }
        if let item { members.append(JSONMember("item", item)) }
        out.append(contentsOf: JSONValue.object(members).bytes)
        out.append(text: asEvents ? "\n\n" : "\n")
    }

    /// Reads a line back: of a stream of JSON lines, with or without its end.
    package static func parse(
        _ line: ArraySlice<UInt8>
    ) throws(Problem) -> (kind: Kind, revision: String, id: UInt64?, item: JSONValue?) {
        let json: JSONValue
        do throws(JSONFault) {
            json = try JSONParser.parse(line, depthMax: 32, valuesMax: 1 << 20)
        } catch {
            throw Problem(.internal, "the answer can't be read: \(error)")
        }
        guard let kind = json["type"]?.text.flatMap(Kind.init), let revision = json["revision"]?.text else {
            throw Problem(.internal, "the answer is no line of a watch; check that both sides run versions that fit")
        }
        return (kind, revision, json["id"]?.whole.map { UInt64(clamping: $0) }, json["item"])
    }
}
