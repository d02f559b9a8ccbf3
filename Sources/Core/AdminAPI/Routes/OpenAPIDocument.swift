/// The OpenAPI 3.1 document of the admin port, written from the table of routes.
package enum OpenAPIDocument {
    /// `version` is the program's.
    package static func bytes(version: String) -> [UInt8] {
        var writer = JSONWriter()
        writer.beginObject()
        writer.name("openapi")
        writer.string("3.1.0")
        writer.name("info")
        writer.beginObject()
        writer.name("title")
        writer.string("Muster")
        writer.name("version")
        writer.string(version)
        writer.name("description")
        writer.string(
            "The admin port of a node. Any node can be asked. Writes take an Idempotency-Key, answers carry "
                + "Muster-Index, errors are problem documents (RFC 9457).")
        writer.endObject()
        writePaths(&writer)
        writer.name("components")
        writer.beginObject()
        writeSchemas(&writer)
        writer.name("securitySchemes")
        writer.value(
            .object([
                JSONMember("certificate", .object([JSONMember("type", "mutualTLS")])),
                JSONMember("token", .object([JSONMember("type", "http"), JSONMember("scheme", "bearer")])),
            ]))
        writer.endObject()
        writer.endObject()
        return writer.finish()
    }

    private static func writePaths(_ writer: inout JSONWriter) {
        writer.name("paths")
        writer.beginObject()
        var written: [String] = []
        for route in Route.all where !written.contains(route.path) {
            written.append(route.path)
            writer.name(route.path)
            writer.beginObject()
            for same in Route.all where same.path == route.path { write(same, &writer) }
            writer.endObject()
        }
        writer.endObject()
    }

    private static func write(_ route: Route, _ writer: inout JSONWriter) {
        writer.name(route.method.name.lowercased())
        writer.beginObject()
        writer.name("operationId")
        writer.string(route.operation.rawValue)
        writer.name("summary")
        writer.string(route.summary)
        writer.name("parameters")
        writer.beginArray()
        for name in route.parameters {
            writer.value(parameter(name, "path", pathSchema(name, route), nil))
        }
        for query in route.query { writer.value(parameter(query.name, "query", schema(query.kind), query.summary)) }
        if route.method != .get {
            writer.value(
                parameter(
                    "Idempotency-Key", "header", schema(.text(pattern: Pattern.idempotencyKey)),
                    "makes a retry harmless: client:sequence[;ack=N][;born=INDEX], or a UUID with or without dashes; of hosts, VMs and "
                        + "the cluster the result is kept for up to 24 h, and of a tenant the newest 16384"))
        }
        if route.hasGeneration {
            writer.value(
                parameter(
                    "If-Match", "header", schema(.text(pattern: Pattern.generation)),
                    "the generation that is changed; 412 when it is another one now"))
        }
        writer.endArray()
        if let body = body(route) {
            writer.name("requestBody")
            writer.value(.object([JSONMember("required", true), JSONMember("content", body)]))
        }
        writer.name("responses")
        writer.beginObject()
        let hasPlan = Route.dryRuns.contains(route.operation)
        if hasPlan && route.status != 200 {
            writer.name("200")
            writer.value(
                .object([
                    JSONMember("description", "With dry-run=1: what would change."),
                    JSONMember("content", media(.json, reference(PlanInfo.shape.name))),
                ]))
        }
        writer.name("\(route.status)")
        writer.value(
            .object([
                JSONMember("description", route.summary),
                JSONMember("content", hasPlan && route.status == 200 ? contentOrPlan(route) : content(route)),
            ]))
        writer.name("429")
        writer.value(
            .object([
                JSONMember(
                    "description",
                    "This client asks this node more often than it may: so many times a second for who shows a certificate or "
                        + "a token (admin.request-rate), and fewer for an address that shows nothing (admin.stranger-rate)."
                ),
                JSONMember(
                    "headers",
                    .object([
                        JSONMember(
                            "Retry-After",
                            .object([
                                JSONMember("description", "After so many seconds it may ask again."),
                                JSONMember("schema", .object([JSONMember("type", "integer")])),
                            ]))
                    ])), JSONMember("content", media(.problem, reference("Problem"))),
            ]))
        writer.name("default")
        writer.value(
            .object([
                JSONMember("description", "What is wrong and what to do."),
                JSONMember("content", media(.problem, reference("Problem"))),
            ]))
        writer.endObject()
        writer.name("security")
        writer.value(
            .array(
                route.security == .open
                    ? []
                    : ["certificate", "token"].map { .object([JSONMember($0, .array([]))]) }))
        writer.endObject()
    }

    private static func pathSchema(_ name: String, _ route: Route) -> JSONValue {
        if name == "key" {
            return .object([
                JSONMember("type", "string"), JSONMember("minLength", Int64(1)), JSONMember("maxLength", Int64(1_024)),
            ])
        }
        return schema(route.operation == .copyGroup ? .text(pattern: Pattern.number) : .name)
    }

    private static func parameter(_ name: String, _ place: String, _ schema: JSONValue, _ summary: String?) -> JSONValue
    {
        var members = [
            JSONMember("name", name), JSONMember("in", place), JSONMember("required", place == "path"),
            JSONMember("schema", schema),
        ]
        if let summary { members.append(JSONMember("description", summary)) }
        return .object(members)
    }

    private static func body(_ route: Route) -> JSONValue? {
        switch route.body {
        case .none: nil
        case .bytes: media(.bytes, .object([]))
        case .json(let shape): media(.json, reference(shape.name))
        }
    }

    private static func content(_ route: Route) -> JSONValue {
        switch route.answer {
        case .raw(let type): return media(type, .object([]))
        case .anyJSON: return media(.json, .object([JSONMember("type", "object")]))
        case .json(let shape):
            if route.query.contains(where: { $0.name == "watch" }) {
                let line = route.operation == .listKeys ? SpaceJSON.change : WatchLine.shape
                var content = [
                    JSONMember(MediaType.json.name, .object([JSONMember("schema", reference(shape.name))])),
                    JSONMember(MediaType.jsonLines.name, .object([JSONMember("schema", reference(line.name))])),
                ]
                if route.operation != .listKeys { content.append(JSONMember(MediaType.events.name, .object([]))) }
                return .object(content)
            }
            return media(.json, reference(shape.name))
        }
    }

    /// Of an answer under the status that a plan has, too.
    private static func contentOrPlan(_ route: Route) -> JSONValue {
        guard case .json(let shape) = route.answer else { return content(route) }
        let either = [reference(shape.name), reference(PlanInfo.shape.name)]
        return media(.json, .object([JSONMember("anyOf", .array(either))]))
    }

    private static func media(_ type: MediaType, _ schema: JSONValue) -> JSONValue {
        .object([JSONMember(type.name, .object([JSONMember("schema", schema)]))])
    }

    private static func reference(_ name: String) -> JSONValue {
        .object([JSONMember("$ref", "#/components/schemas/\(name)")])
    }

    // MARK: Schemas

    static let problem = Shape(
        "Problem",
        [
            Field("type", .string, "the URI that names the kind"), Field("title", .string, "the kind in words"),
            Field("status", .integer, "the HTTP status"), Field("detail", .string, "what to do"),
            Field("instance", .string, isRequired: false, "the path of the request"),
        ])

    private static func writeSchemas(_ writer: inout JSONWriter) {
        var shapes: [Shape] = []
        collect(problem, &shapes)
        collect(SpaceJSON.change, &shapes)
        collect(WatchLine.shape, &shapes)
        for route in Route.all {
            if case .json(let shape) = route.body { collect(shape, &shapes) }
            if case .json(let shape) = route.answer { collect(shape, &shapes) }
        }
        // What a request may hold is closed; an answer may say more in a newer version.
        var closed: [Shape] = []
        for route in Route.all { if case .json(let shape) = route.body { collect(shape, &closed) } }
        writer.name("schemas")
        writer.beginObject()
        for shape in shapes.sorted(by: { $0.name < $1.name }) {
            writer.name(shape.name)
            writer.value(schema(shape, isClosed: closed.contains { $0.name == shape.name }))
        }
        writer.endObject()
    }

    private static func collect(_ shape: Shape, _ shapes: inout [Shape]) {
        if shapes.contains(where: { $0.name == shape.name }) { return }
        shapes.append(shape)
        for field in shape.fields {
            switch field.kind {
            case .objects(let inner), .object(let inner): collect(inner, &shapes)
            default: break
            }
        }
    }

    private static func schema(_ shape: Shape, isClosed: Bool) -> JSONValue {
        var members = [
            JSONMember("type", "object"),
            JSONMember("required", shape.fields.filter(\.isRequired).map(\.name)),
            JSONMember(
                "properties",
                .object(
                    shape.fields.map { field in
                        var schema = schema(field.kind)
                        // A member that may be left out may be null as well.
                        if isClosed && !field.isRequired { schema = orNull(schema) }
                        var members = schema.members ?? []
                        members.append(JSONMember("description", field.summary))
                        return JSONMember(field.name, .object(members))
                    })),
        ]
        if isClosed { members.append(JSONMember("additionalProperties", false)) }
        return .object(members)
    }

    private static func orNull(_ schema: JSONValue) -> JSONValue {
        .object([JSONMember("anyOf", .array([schema, .object([JSONMember("type", "null")])]))])
    }

    private static func schema(_ kind: Field.Kind) -> JSONValue {
        func typed(_ type: String, _ more: JSONMember...) -> JSONValue { .object([JSONMember("type", type)] + more) }
        switch kind {
        case .string: return typed("string")
        case .integer: return typed("integer")
        case .number: return typed("number")
        case .boolean: return typed("boolean")
        case .strings: return typed("array", JSONMember("items", typed("string")))
        case .integers: return typed("array", JSONMember("items", typed("integer")))
        case .bytes: return typed("string", JSONMember("contentEncoding", "base64"))
        case .objects(let shape): return typed("array", JSONMember("items", reference(shape.name)))
        case .object(let shape): return reference(shape.name)
        case .anyObject: return typed("object")
        case .anyObjects: return typed("array", JSONMember("items", typed("object")))
        case .map: return typed("object", JSONMember("additionalProperties", typed("string")))
        case .range(let least, let most):
            return typed("integer", JSONMember("minimum", least), JSONMember("maximum", most))
        case .choice(let words): return typed("string", JSONMember("enum", words))
        case .name: return typed("string", JSONMember("pattern", ObjectName.pattern))
        case .text(let pattern): return typed("string", JSONMember("pattern", pattern))
        case .oneOf(let numbers): return typed("integer", JSONMember("enum", .array(numbers.map { .integer($0) })))
        case .names:
            return typed("array", JSONMember("items", typed("string", JSONMember("pattern", ObjectName.pattern))))
        }
    }
}
