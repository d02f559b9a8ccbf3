package import AdminAPI
internal import ClusterBase
package import CommandSyntax

/// A mistake in the words of a command line, as a sentence that says what to do.
package struct FleetMistake: Error, Hashable, Sendable, CustomStringConvertible {
    package let description: String
    package let code: ExitCode
    /// `code`: another one where the words make sense, and what they name is not there, or can't be had.
    package init(_ description: String, code: ExitCode = .usage) {
        self.description = description
        self.code = code
    }
}

/// Turns the options of a specification into the members of its JSON. What is not given is left out, so that the same
/// serves a new specification and a change of one.
package enum SpecOptions {
    package static func members(_ line: Invocation) throws(FleetMistake) -> [JSONMember] {
        var members: [JSONMember] = []
        func add(_ name: String, _ value: JSONValue?) {
            if let value { members.append(JSONMember(name, value)) }
        }
        if let text = line.text("cpu") { add("cpuMillis", .integer(try cores(text))) }
        if let size = line.size("memory") { add("memoryMiB", .integer(Int64(size >> 20))) }
        if let rate = line.integer("bandwidth") { add("networkMbps", .integer(Int64(rate))) }
        if let text = line.text("numa") {
            add("numaExactly", Int64(text).map { .integer($0) } ?? .null)
            add("numaAtMost", text == "fewest" ? .integer(8) : .null)
        }
        func each(_ option: String, _ body: (String) throws(FleetMistake) -> JSONValue) throws(FleetMistake)
            -> JSONValue?
        {
            let texts = line.texts(option)
            if texts.isEmpty { return nil }
            if texts == [none] { return .array([]) }
            var values: [JSONValue] = []
            for text in texts {
                if text == none { throw both(option) }
                values.append(try body(text))
            }
            return .array(values)
        }
        add("disks", try disks(line.texts("disk")))
        if let text = line.text("tpm") {
            if text == none {
                add("tpm", .null)
            } else {
                guard ["local", "ephemeral"].contains(text) || text.hasPrefix("shared:") && text.utf8.count > 7 else {
                    throw FleetMistake(
                        "'\(text)' is no place for what a TPM remembers; write local, ephemeral, shared:DOMAIN, or none."
                    )
                }
                add("tpm", .string(text))
            }
        }
        add("networks", try each("network") { (text) throws(FleetMistake) in .string(text) })
        add("groups", try each("group") { (text) throws(FleetMistake) in .string(text) })
        add("zones", try each("zone") { (text) throws(FleetMistake) in .string(text) })
        add("required", try each("require") { (text) throws(FleetMistake) in try selector(text) })
        add(
            "preferred",
            try each("prefer") { (text) throws(FleetMistake) in
                guard case .object(let members) = try selector(text) else { return .null }
                return .object(members + [JSONMember("weight", .integer(50))])
            })
        add(
            "tolerations",
            try each("tolerate") { (text) throws(FleetMistake) in
                let parts = halves(text)
                return .object(
                    [JSONMember("key", .string(parts.0))] + (parts.1.map { [JSONMember("value", .string($0))] } ?? []))
            })
        add("devices", try each("device") { (text) throws(FleetMistake) in try device(text) })
        if let priority = line.integer("priority") { add("priority", .integer(Int64(priority))) }
        for name in ["policy", "restart", "isolation"] {
            add(name, line.text(name).map { name == "policy" && $0 == none ? .null : .string($0) })
        }
        add("regionLoss", line.text("region-loss").map { .string($0) })
        add("regionReturn", line.text("region-return").map { .string($0) })
        add("moveIntent", line.text("move-intent").map { $0 == none ? .null : .string($0) })
        add("regions", try each("region") { (text) throws(FleetMistake) in .string(text) })
        add("near", try each("near") { (text) throws(FleetMistake) in .string(text) })
        if let most = line.duration("near-within") {
            add("nearWithinMillis", most == .zero ? .null : .integer(max(1, most.milliseconds)))
        }
        add("cellChoice", line.text("cell-choice").map { .string($0) })
        add("labels", try changes(line.texts("label"), "--label"))
        add("annotations", try changes(line.texts("annotation"), "--annotation"))
        return members
    }

    /// What takes away all that a list or a map holds.
    package static let none = "none"

    private static func both(_ option: String) -> FleetMistake {
        FleetMistake("--\(option) \(none) takes all of them away; give it alone.")
    }

    /// Members of maps that change, the others staying as they are: `KEY=VALUE` sets one, `KEY-` takes it away (null), and
    /// `none` alone all of them (an array, which no map is).
    package static func changes(_ texts: [String], _ option: String) throws(FleetMistake) -> JSONValue? {
        if texts.isEmpty { return nil }
        if texts == [none] { return .array([]) }
        var members: [JSONMember] = []
        for text in texts {
            let (key, value) = halves(text)
            if text == none { throw both(String(option.dropFirst(2))) }
            let isGone = value == nil && key.hasSuffix("-") && key.count > 1
            guard isGone || value != nil, !key.isEmpty else {
                throw FleetMistake("\(option) wants KEY=VALUE, or KEY- to take one away, not '\(text)'.")
            }
            let name = isGone ? String(key.dropLast()) : key
            members.removeAll { $0.name == name }
            members.append(JSONMember(name, value.map { .string($0) } ?? .null))
        }
        return .object(members)
    }

    /// A specification with what options say of it. Maps keep what is not named; null takes a member away.
    package static func merged(_ base: JSONValue, _ members: [JSONMember]) -> JSONValue {
        var all = base.members ?? []
        for var member in members {
            if case .object(let changes) = member.value,
                let before = all.first(where: { $0.name == member.name })?.value, before.members != nil
            {
                member.value = merged(before, changes)
            } else if case .object(let changes) = member.value {
                member.value = merged(.object([]), changes)
            }
            all.removeAll { $0.name == member.name }
            let isEmptyMap = ["labels", "annotations", "secrets"].contains(member.name) && member.value == .array([])
            if member.value != .null && !isEmptyMap { all.append(member) }
        }
        return .object(withoutSealed(all, members))
    }

    /// A value that is a secret from now on is no annotation any more, as which an older cluster keeps and shows it.
    private static func withoutSealed(_ all: [JSONMember], _ members: [JSONMember]) -> [JSONMember] {
        func given(_ name: String) -> [JSONMember] { members.first { $0.name == name }?.value.members ?? [] }
        let asked = given("annotations").map(\.name)
        let sealed = given("secrets").filter { $0.value != .null }.map(\.name).filter { !asked.contains($0) }
        if sealed.isEmpty { return all }
        return all.compactMap { member in
            guard member.name == "annotations", let kept = member.value.members else { return member }
            let left = kept.filter { !sealed.contains($0.name) }
            return left.isEmpty ? nil : JSONMember(member.name, .object(left))
        }
    }

    /// `2`, `0.5` or `1500m`, in thousandths.
    package static func cores(_ text: String) throws(FleetMistake) -> Int64 {
        if text.hasSuffix("m"), let millis = Int64(text.dropLast()), millis > 0 { return millis }
        if let millis = thousandths(text), millis > 0 { return millis }
        throw FleetMistake("'\(text)' is no number of cores; write 2, 0.5 or 1500m.")
    }

    /// A decimal number with at most three digits after the point, times 1,000.
    package static func thousandths(_ text: String) -> Int64? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        // A sign would be lost with a zero behind it.
        guard parts.count <= 2, parts.allSatisfy({ $0.utf8.allSatisfy { $0 &- 48 <= 9 } }),
            let whole = Int64(parts[0]), whole < 1 << 40
        else { return nil }
        guard parts.count == 2 else { return whole * 1_000 }
        guard (1...3).contains(parts[1].count), let rest = Int64(parts[1]) else { return nil }
        let scale: Int64 = parts[1].count == 1 ? 100 : parts[1].count == 2 ? 10 : 1
        return whole * 1_000 + rest * scale
    }

    private static func halves(_ text: String) -> (String, String?) {
        let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        return (parts[0], parts.count == 2 ? parts[1] : nil)
    }

    package static func named(_ texts: [String], _ option: String) throws(FleetMistake) -> JSONValue? {
        if texts.isEmpty { return nil }
        var members: [JSONMember] = []
        for text in texts {
            let (key, value) = halves(text)
            guard let value, !key.isEmpty else {
                throw FleetMistake("\(option) wants KEY=VALUE, not '\(text)'.")
            }
            members.removeAll { $0.name == key }
            members.append(JSONMember(key, .string(value)))
        }
        return .object(members)
    }

    private static func selector(_ text: String) throws(FleetMistake) -> JSONValue {
        let isNegated = text.hasPrefix("!")
        let (key, value) = halves(isNegated ? String(text.dropFirst()) : text)
        guard !key.isEmpty else {
            throw FleetMistake("'\(text)' selects no label; write KEY, KEY=VALUE, KEY=A,B, or either with ! in front.")
        }
        let values = value.map { $0.split(separator: ",").map { JSONValue.string(String($0)) } }
        let rule: JSONMember =
            if let values {
                JSONMember(isNegated ? "noneOf" : "oneOf", .array(values))
            } else {
                JSONMember("exists", .bool(!isNegated))
            }
        return .object([JSONMember("key", .string(key)), rule])
    }

    /// `kind`, `kind*2`, `kind:500`, `a,b*2`.
    private static func device(_ text: String) throws(FleetMistake) -> JSONValue {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        let front = parts[0].split(separator: "*", omittingEmptySubsequences: false)
        let kinds = front[0].split(separator: ",").map { JSONValue.string(String($0)) }
        guard parts.count <= 2, front.count <= 2, !kinds.isEmpty,
            let count = front.count == 2 ? Int64(front[1]) : 1, count > 0,
            let millis = parts.count == 2 ? Int64(parts[1]) : 1_000, (1...1_000).contains(millis)
        else {
            throw FleetMistake(
                "'\(text)' is no device; write gpu, gpu*2 for two, gpu:500 for half of one, or a,b for either kind.")
        }
        return .object([
            JSONMember("kinds", .array(kinds)), JSONMember("count", .integer(count)),
            JSONMember("millis", .integer(millis)),
        ])
    }

    private static func disks(_ texts: [String]) throws(FleetMistake) -> JSONValue? {
        if texts.isEmpty { return nil }
        if texts == [none] { return .array([]) }
        var disks: [JSONValue] = []
        for (i, text) in texts.enumerated() {
            var name = "disk\(i)"
            var size: Int?
            var kind = "local"
            var rest: [JSONMember] = []
            for part in text.split(separator: ",") {
                let (key, value) = halves(String(part))
                switch (key, value) {
                case ("name", let value?): name = value
                case ("size", let value?): size = Quantity.size(value)
                case (_, nil) where size == nil: size = Quantity.size(key)
                case ("keep", nil) where size != nil: rest.append(JSONMember("keep", .bool(true)))
                case ("image", let value?): rest.append(JSONMember("image", .string(value)))
                case ("kind", let value?):
                    let parts = value.split(separator: ":", maxSplits: 1)
                    kind = String(parts[0])
                    guard ["local", "ephemeral", "shared"].contains(kind), (kind == "shared") == (parts.count == 2)
                    else {
                        throw FleetMistake("'\(value)' is no kind of disk; write local, ephemeral or shared:DOMAIN.")
                    }
                    if parts.count == 2 { rest.append(JSONMember("domain", .string(String(parts[1])))) }
                default:
                    throw FleetMistake(
                        "'\(part)' says nothing about a disk; write size=20GiB,kind=local,name=root,image=NAME, or a size alone; "
                            + "keep after the size lets a shared one stay."
                    )
                }
            }
            guard let size, size >= 1 << 20 else {
                throw FleetMistake("the disk '\(text)' has no size; write it with its unit, such as size=20GiB.")
            }
            disks.append(
                .object(
                    [
                        JSONMember("name", .string(name)), JSONMember("sizeMiB", .integer(Int64(size >> 20))),
                        JSONMember("kind", .string(kind)),
                    ] + rest))
        }
        return .array(disks)
    }

    /// `web-{1..3}` as its three names; any other name as itself.
    /// At most so many VMs are made by one command.
    package static let namesMax = 100_000

    /// The names that all of these mean.
    package static func names(_ patterns: [String]) throws(FleetMistake) -> [String] {
        var all: [String] = []
        for pattern in patterns {
            all += try names(pattern)
            guard all.count <= namesMax else {
                throw FleetMistake("These are more than \(namesMax) VMs; create fewer at once.")
            }
        }
        return all
    }

    package static func names(_ pattern: String) throws(FleetMistake) -> [String] {
        guard let open = pattern.firstIndex(of: "{") else { return [pattern] }
        guard let close = pattern[open...].firstIndex(of: "}"),
            let dots = pattern[open..<close].firstRange(of: ".."),
            let low = Int(pattern[pattern.index(after: open)..<dots.lowerBound]),
            let high = Int(pattern[dots.upperBound..<close]), low >= 0, low <= high, high - low < 10_000
        else {
            throw FleetMistake(
                "'\(pattern)' names nothing; braces hold two numbers, such as web-{1..20}, at most 10,000 apart.")
        }
        let width =
            pattern[pattern.index(after: open)] == "0"
            ? pattern[open...].distance(from: pattern.index(after: open), to: dots.lowerBound) : 0
        return (low...high).map { number in
            let digits = String(number)
            let zeros = String(repeating: "0", count: max(0, width - digits.count))
            return pattern[..<open] + zeros + digits + pattern[pattern.index(after: close)...]
        }
    }
}
