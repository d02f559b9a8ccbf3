package import AdminAPI

/// The clusters that a user knows by name: the text of one file, a line each. `*` marks the one that is asked.
///
///     * home  /etc/muster/op  10.0.0.1:7470 10.0.0.2:7470
///       lab   /srv/lab
package struct Contexts: Hashable, Sendable {
    package struct Entry: Hashable, Sendable {
        package var name: String
        package var folder: String
        package var addresses: [String]
    }
    package private(set) var entries: [Entry] = []
    package private(set) var current: String?

    package init() {}

    /// Lines that say nothing are left out.
    package init(text: String) {
        for line in text.split(separator: "\n") {
            var words = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
            guard words.count >= 3 else { continue }
            let mark = words.removeFirst()
            entries.append(
                Entry(name: words[0], folder: words[1], addresses: words.dropFirst(2).filter { !$0.isEmpty }))
            if mark == "*" { current = words[0] }
        }
    }

    package var text: String {
        entries.map { entry in
            ([entry.name == current ? "*" : "", entry.name, entry.folder] + entry.addresses).joined(separator: "\t")
                + "\n"
        }.joined()
    }

    /// As a list shows them.
    package var rows: [JSONValue] {
        entries.map { entry in
            .object([
                JSONMember("name", .string(entry.name)), JSONMember("isUsed", .bool(entry.name == current)),
                JSONMember("folder", .string(entry.folder)),
                JSONMember("addresses", .array(entry.addresses.map { .string($0) })),
            ])
        }
    }

    package subscript(name: String) -> Entry? { entries.first { $0.name == name } }
    package var used: Entry? { current.flatMap { self[$0] } }

    /// The first one is used at once.
    package mutating func set(_ name: String, folder: String, addresses: [String]) {
        entries.removeAll { $0.name == name }
        entries.append(Entry(name: name, folder: folder, addresses: addresses))
        entries.sort { $0.name < $1.name }
        if entries.count == 1 { current = name }
    }

    /// False when there is none of this name.
    package mutating func use(_ name: String) -> Bool {
        guard self[name] != nil else { return false }
        current = name
        return true
    }

    package mutating func remove(_ name: String) -> Bool {
        guard self[name] != nil else { return false }
        entries.removeAll { $0.name == name }
        if current == name { current = nil }
        return true
    }
}
