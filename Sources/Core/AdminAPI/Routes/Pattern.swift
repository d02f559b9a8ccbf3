/// Regular expressions of JSON Schema for what stands in paths, queries and header fields. The readers of these texts are held
/// to them by `Tools/check api`: what fits is never refused as malformed.
enum Pattern {
    static let name = ObjectName.pattern
    private static let bareName = "[A-Za-z0-9][A-Za-z0-9._-]{0,\(AdminLimits.nameBytesMax - 1)}"
    static let number = "^[0-9]{1,15}$"
    static let duration = "^[0-9]{1,7}(ms|s)$"
    private static let slot = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[0-9]{1,2})"
    /// `index.slot`.
    static let revision = "^[0-9]{1,15}\\.\(slot)$"
    /// `index.slot`, or an index for its end.
    static let place = "^[0-9]{1,15}(\\.\(slot))?$"
    static let revisionOrZero = "^(0|[0-9]{1,15}\\.\(slot))$"
    /// Of a lock.
    static let owner = "^[ -~]{1,256}$"
    static let fence = "^\(bareName):[0-9]{1,18}$"
    static let planDigest = "^[0-9a-f]{1,16}$"
    static let generation = "^(\\*|[0-9]{1,15}|\"[0-9]{1,15}\")$"
    static let base64URL = "^([A-Za-z0-9_-]{4})*([A-Za-z0-9_-][AQgw]|[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048])?$"
    static let names = "^\(bareName)(,\(bareName)){0,63}$"
    static let idempotencyKey =
        "^([1-9][0-9]{0,18}:[1-9][0-9]{0,18}(;ack=[0-9]{1,18})?"
        + "|[0-9a-fA-F]{32}|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12})(;born=[0-9]{1,18})?$"
    static let role = "^(admin|operator|viewer|(space|tenant):\(bareName):(read|write))$"
    static let absolutePath = "^/"

    /// Members of a shape between commas; a dot leads into an inner object.
    static func members(of shape: Shape) -> String {
        let known = "(\(shape.fields.map(\.name).joined(separator: "|")))(\\.[^,]*)?"
        return "^\(known)(,\(known)){0,63}$"
    }

    /// A field of a list, with - before it from the highest down.
    static func order(_ fields: [FilterField]) -> String {
        let known = fields.compactMap { field -> String? in
            switch field.kind {
            case .texts: nil
            case .map: field.name + "\\.[^\\x00-\\x1f]+"
            case .text, .number: field.name
            }
        }
        return "^-?(\(known.joined(separator: "|")))$"
    }
}
