import ClusterBase
import Glibc
import RaftCore
import TLSSession

/// What a host's operator must put right, in one sentence.
struct AgentFailure: Error, CustomStringConvertible {
    let description: String
    /// The disk failed, and may do so no more at the next start.
    let isStorage: Bool
    /// No other start mends it: somebody has to do something.
    let isFinal: Bool

    init(_ description: String, isStorage: Bool = false, isFinal: Bool = false) {
        self.description = description
        self.isStorage = isStorage
        self.isFinal = isFinal
    }
}

/// The small files beside a node's stores: who it is, whom it trusts, and what only some nodes hold.
///
///     node.key, node.pem        its private key, which never leaves this host, and its certificate
///     authorities.pem           who may have signed the others'
///     peers                     where the others were when this node last knew: `id host:port` per line; `highest id` is of all
///                               that there ever were
///     admins                    their admin ports, likewise
///     level                     the feature level that is open in the cluster, as far as this node knows
///     founding                  the cluster's first command, until it is applied
///     authority.pem, .sealed    the signing authority and its key, sealed with `authority.secret`; on root voters
///     images/                   images that this node keeps for others, or that its VMs began with
///     sealing.key               what secret fields of VMs are sealed with; on root voters
///     next-authority.…          the same of one that does not sign yet, where it was made
///     guard/                    the guard's lock, socket, log, and the highest epoch of each VM
///     vms/                      what the host's driver runs, unless its settings name another place
///     operator/                 the first operator's certificate, key, trust and address, for the command line
struct NodeFiles {
    let path: String

    static let names = [
        "node.key", "node.pem", "authorities.pem", "peers", "founding", "authority.pem", "authority.sealed",
        "authority.secret", "next-authority.pem", "next-authority.sealed", "next-authority.secret", "operator",
        "joining.key", "set-up", "vms", "guard", "level", "admins", "sealing.key", "images",
    ]
    /// And what a crash leaves of one that was being written.
    static var namesAndRests: [String] { names.flatMap { [$0, $0 + ".next"] } }
    static let bytesMax = 1 << 20

    /// Makes a folder and those above it, for its owner alone.
    static func makeFolders(_ path: String) throws(AgentFailure) {
        var at = path.startIndex
        while at < path.endIndex {
            at = path[path.index(after: at)...].firstIndex(of: "/") ?? path.endIndex
            if mkdir(String(path[..<at]), 0o700) != 0 && errno != EEXIST { throw failure("make \(path[..<at])") }
        }
    }

    func has(_ name: String) -> Bool { access(path + "/" + name, F_OK) == 0 }

    func read(_ name: String) throws(AgentFailure) -> [UInt8] { try NodeFiles.read(path + "/" + name) }
    func text(_ name: String) throws(AgentFailure) -> String { String(decoding: try read(name), as: UTF8.self) }

    static func read(_ path: String, tooLong: String? = nil) throws(AgentFailure) -> [UInt8] {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw failure("read \(path)") }
        defer { close(file) }
        var bytes: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = Glibc.read(file, &part, part.count)
            if count < 0 { throw failure("read \(path)") }
            if count == 0 { return bytes }
            bytes += part[..<count]
            if bytes.count > bytesMax {
                throw AgentFailure(
                    tooLong ?? "\(path) is longer than \(bytesMax) bytes and can't be what it should be.")
            }
        }
    }

    /// The last `count` bytes of a file of any length.
    static func readEnd(_ path: String, _ count: Int) throws(AgentFailure) -> [UInt8] {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw failure("read \(path)") }
        defer { close(file) }
        let size = Int(lseek(file, 0, SEEK_END))
        var bytes = [UInt8](repeating: 0, count: min(size, count))
        // Shorter where the file was cut meanwhile.
        let read = pread(file, &bytes, bytes.count, size - bytes.count)
        if read < 0 { throw failure("read \(path)") }
        return Array(bytes.prefix(read))
    }

    /// At most so many bytes of a file from a place on, or from its end, and the place after them. Nothing of one that is not
    /// there; one that is shorter by now is read from its begin, and what is not kept of it any more is passed over.
    static func readOn(_ path: String, from: Int64?, _ count: Int) -> (bytes: [UInt8], next: Int64) {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return ([], 0) }
        defer { close(file) }
        let size = Int64(lseek(file, 0, SEEK_END))
        // The C header hides SEEK_DATA from programs without its extensions.
        let seekData: Int32 = 3
        let wanted = from.map { $0 > size ? 0 : $0 } ?? size
        let kept = wanted < size ? Int64(lseek(file, off_t(wanted), seekData)) : size
        let place = kept < 0 ? wanted : kept
        var bytes = [UInt8](repeating: 0, count: Int(min(size - place, Int64(count))))
        let read = max(0, pread(file, &bytes, bytes.count, off_t(place)))
        let text = bytes.prefix(read)
        // Whole pages are given back, and what comes before the first word is empty.
        return (Array(place > wanted ? text.drop { $0 == 0 } : text), place + Int64(read))
    }

    func write(_ name: String, _ bytes: [UInt8], isSecret: Bool = false) throws(AgentFailure) {
        try NodeFiles.write(path + "/" + name, bytes, isSecret: isSecret)
    }
    func write(_ name: String, _ text: String, isSecret: Bool = false) throws(AgentFailure) {
        try write(name, Array(text.utf8), isSecret: isSecret)
    }

    /// Replaces a file whole: after a crash there is the old one or the new one.
    static func write(_ path: String, _ bytes: [UInt8], isSecret: Bool = false) throws(AgentFailure) {
        let next = path + ".next"
        let file = open(next, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, isSecret ? 0o600 : 0o644)
        guard file >= 0 else { throw failure("write \(next)") }
        var isGood = true
        var at = 0
        while at < bytes.count && isGood {
            let count = bytes[at...].withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            isGood = count > 0
            at += max(0, count)
        }
        isGood = isGood && fsync(file) == 0
        let problem = failure("write \(next)")
        close(file)
        guard isGood else {
            unlink(next)
            throw problem
        }
        guard rename(next, path) == 0 else { throw failure("replace \(path)") }
        NodeFiles.syncFolder(of: path)
    }

    func remove(_ name: String) {
        unlink(path + "/" + name)
        NodeFiles.syncFolder(of: path + "/" + name)
    }

    /// Removes the stores of a node that never was one.
    func removeStores() throws(AgentFailure) {
        for name in ["raft", "state", "incoming", "FORMAT", "horizon", "reserve", "LOCK"] {
            try NodeFiles.removeAll(path + "/" + name)
        }
        NodeFiles.syncFolder(of: path + "/FORMAT")
    }

    private static func removeAll(_ path: String) throws(AgentFailure) {
        if unlink(path) == 0 || errno == ENOENT { return }
        for name in names(in: path) where name != "." && name != ".." { try removeAll(path + "/" + name) }
        guard rmdir(path) == 0 else { throw failure("remove \(path)") }
    }

    /// What is in a folder; nothing when it can't be read.
    static func names(in folder: String) -> [String] {
        guard let stream = opendir(folder) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            names.append(
                withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                    pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                })
        }
        return names
    }

    private static func syncFolder(of path: String) {
        let end = path.lastIndex(of: "/") ?? path.startIndex
        let folder = open(String(path[..<end]), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard folder >= 0 else { return }
        fsync(folder)
        close(folder)
    }

    /// Makes a folder and those above it.
    static func makeFolder(_ path: String, isSecret: Bool = false) throws(AgentFailure) {
        var at = path.startIndex
        while at < path.endIndex {
            let next = path[path.index(after: at)...].firstIndex(of: "/") ?? path.endIndex
            let part = String(path[..<next])
            let isLast = next == path.endIndex
            if mkdir(part, isLast && isSecret ? 0o700 : 0o755) != 0 && errno != EEXIST {
                throw failure("make the folder \(part)")
            }
            at = next
        }
    }

    static func failure(_ act: String) -> AgentFailure {
        AgentFailure("Can't \(act): \(String(cString: strerror(errno))).")
    }

    // MARK: What is in them

    func identity() throws(AgentFailure) -> TLSIdentity {
        let (chain, key) = (try text("node.pem"), try text("node.key"))
        do throws(TLSFailure) {
            return try TLSIdentity(chain: chain, key: key)
        } catch {
            throw AgentFailure("\(path)/node.pem and node.key are no pair: \(error.message)")
        }
    }

    func nodeKey() throws(AgentFailure) -> PrivateKey {
        let pem = try text("node.key")
        do throws(TLSFailure) {
            return try PrivateKey(pem: pem)
        } catch {
            throw AgentFailure("\(path)/node.key can't be read: \(error.message)")
        }
    }

    func authorities() throws(AgentFailure) -> [Certificate] {
        let pem = try text("authorities.pem")
        do throws(TLSFailure) {
            return try Certificate.list(pem: pem)
        } catch {
            throw AgentFailure("\(path)/authorities.pem can't be read: \(error.message)")
        }
    }

    /// What the files of an authority that does not sign yet begin with, on the node where it was made.
    static let nextAuthority = "next-authority"

    /// The signing authority, if this node holds its key.
    func authority(_ name: String = "authority") throws(AgentFailure) -> CertificateAuthority? {
        guard has(name + ".sealed") else { return nil }
        let (pem, sealed, secret) = (
            try text(name + ".pem"), try read(name + ".sealed"), try text(name + ".secret")
        )
        do throws(TLSFailure) {
            return try CertificateAuthority(
                certificate: Certificate(pem: pem), wrappedKey: sealed, SecretKey(text: secret))
        } catch {
            throw AgentFailure("The authority's key in \(path) can't be opened: \(error.message)")
        }
    }

    func keep(_ authority: CertificateAuthority, as name: String = "authority") throws(AgentFailure) {
        let secret = SecretKey.make()
        let sealed: [UInt8]
        do throws(TLSFailure) {
            sealed = try authority.wrappedKey(secret)
        } catch {
            throw AgentFailure("The authority's key can't be sealed: \(error.message)")
        }
        remove(name + ".sealed")
        try write(name + ".secret", secret.text, isSecret: true)
        try write(name + ".pem", authority.certificate.pem)
        try write(name + ".sealed", sealed, isSecret: true)
    }

    /// The feature level that was open when this node last knew; 0 before it heard of one.
    func openLevel() throws(AgentFailure) -> UInt32 {
        guard has("level") else { return 0 }
        guard let level = UInt32(try text("level").prefix { $0 != "\n" }) else {
            throw AgentFailure("\(path)/level holds no number; remove it, and the agent writes it anew.")
        }
        return level
    }

    func forgetAuthority(_ name: String = "authority") {
        for end in [".sealed", ".secret", ".pem"] where has(name + end) { remove(name + end) }
    }

    /// The highest number that any node had when this one last knew; nil where `peers` need not name all members.
    func nodeHighest() -> NodeID? {
        guard let text = try? text("peers") else { return nil }  // As if nothing were known.
        let line = text.split(separator: "\n").first { $0.hasPrefix("highest ") }
        return line.flatMap { UInt64($0.dropFirst("highest ".count)) }.map { NodeID($0) }
    }

    func peers(_ name: String = "peers") -> [(node: NodeID, address: String)] {
        guard let text = try? text(name) else { return [] }  // An older node's address is only a hint.
        return text.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ")
            guard words.count == 2, let id = UInt64(words[0]) else { return nil }
            return (NodeID(id), String(words[1]))
        }
    }
}
