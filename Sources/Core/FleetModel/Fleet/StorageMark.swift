import ClusterBase

/// What tells a storage domain's directory from the bare place where its file system would be: a file in it, written once, when the
/// domain begins. The root knows the same bytes.
///
///     domain fast
///     cluster 0f3c…
///     mark 9a21…
package struct StorageMark: Hashable, Sendable {
    package static let fileName = ".muster-domain"
    package static let bytesMax = 1_024
    package static let markBytes = 32

    package var domain: String
    /// Of the cluster that wrote it. One that was restored has another id, and the same marks.
    package var cluster: [UInt8]
    package var mark: [UInt8]
    package init(domain: String, cluster: [UInt8], mark: [UInt8]) {
        self.domain = domain
        self.cluster = cluster
        self.mark = mark
    }

    package var text: String {
        "# This is a storage domain of Muster, with disks of virtual machines. By this file hosts know it: leave it here.\n"
            + "domain \(domain)\ncluster \(StorageMark.digits(cluster))\nmark \(StorageMark.digits(mark))\n"
    }

    /// Nil for what no program wrote so.
    package init?(_ text: String) {
        var words: [Substring: Substring] = [:]  // hash order: looked up only
        for line in text.split(separator: "\n") where !line.hasPrefix("#") {
            guard let space = line.firstIndex(of: " ") else { return nil }
            words[line[..<space]] = line[line.index(after: space)...]
        }
        guard let domain = words["domain"], let cluster = words["cluster"].flatMap(StorageMark.bytes),
            let mark = words["mark"].flatMap(StorageMark.bytes), mark.count == StorageMark.markBytes
        else { return nil }
        self.init(domain: String(domain), cluster: cluster, mark: mark)
    }

    /// In base 16, two digits each.
    package static func digits(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    private static func bytes(_ digits: Substring) -> [UInt8]? {
        let all = Array(digits)
        guard all.count % 2 == 0 else { return nil }
        var bytes: [UInt8] = []
        for i in stride(from: 0, to: all.count, by: 2) {
            guard let byte = UInt8(String(all[i...(i + 1)]), radix: 16) else { return nil }
            bytes.append(byte)
        }
        return bytes
    }
}

/// What a host finds where a storage domain should be.
package enum StorageFinding: Hashable, Sendable {
    /// No directory of that name.
    case missing
    /// A directory without a mark: an empty one may be the place where the file system is not mounted.
    case bare(hasDisks: Bool)
    case marked(StorageMark)
    /// It can't be told, and why.
    case unreadable(String)
}

extension RootCluster {
    /// What a storage domain is known by; nil for one that no host has used.
    package func mark(of domain: String) -> [UInt8]? { domains.first { $0.name == domain }?.mark }
}
