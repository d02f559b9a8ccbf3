import ClusterBase
import FleetModel
import Glibc
import NodeStorage
import PeerTransport
import RaftCore
import Reactor
import TLSSession

/// The bytes of images on this node: what it keeps for the others, and what its VMs began with.
///
///     nothing here ──(pull from a node that keeps it)──▶ part ──(whole, and its hash is right)──▶ file ──(hash looked at)──▶ ready
///                            ▲                            │ broken off: goes on where it stopped        │
///                            └──── its hash is wrong: from another node, from the start ◀───────────────┘ damaged on this disk
///
///     <folder>/<sha256>         a whole image          <folder>/<sha256>.part   what has come of one from another node
///     <folder>/<sha256>.<tenant>.up    what a tenant has sent of one; nothing after the dot: what is to be everybody's
///
/// A file counts as good for as long as it is the file that was hashed, by its size, its time and its number, and for a day at
/// most. What nobody keeps and no VM here uses goes, the longest unused first, when the folder is full. Belongs to the loop's
/// thread; what takes time has threads of its own.
final class ImageStore {
    enum Readiness: Equatable {
        case ready
        case pending
        case failed(String)
    }

    static let pullsMax = 2
    static let sendsMax = 4
    /// Images that are hashed at once: each takes a core and a good part of a disk.
    private static let hashingMax = 2
    static let trust = Nanoseconds.seconds(86_400)
    private static let retry = Nanoseconds.seconds(1)
    /// Uploads of this node, and those of one tenant.
    static let uploadsMax = 64
    static let uploadsPerTenantMax = 8
    /// Seconds for which one is kept that nobody adds to; the shorter one while the disk is nearly full.
    private static let uploadPatience: Int64 = 3_600
    private static let lowSpacePatience: Int64 = 60
    /// Threads for what clients send.
    private static let workMax = 32

    private struct Known {
        /// What was hashed, and when.
        var good: (stamp: FileStamp, at: Instant)?
        var usedAt: Instant
        var isBusy = false
        var failure: (reason: String, at: Instant)?
        /// Nodes whose copy was not what it should be.
        var bad: Set<NodeID> = []
        var attempts = 0
    }

    private final class Pull {
        let from: NodeID
        let cancel = Guarded(false)
        var stream: PeerStream?
        var reason: String?
        /// Bytes that are to come.
        let rest: Int64

        init(_ from: NodeID, rest: Int64) {
            self.from = from
            self.rest = rest
        }
    }

    enum News: Sendable {
        /// With the hash that was found; nil where it can't be read.
        case hashed(String, FileStamp?, found: String?)
        case pulled(String, ImageFiles.Outcome)
        case sent(UInt64, String?)
        case done(UInt64, Result<ImageFiles.Content, ImageFiles.Failure>)
    }

    /// Nothing was ever here.
    var isIdle: Bool { known.isEmpty && uploads.isEmpty && !mayHaveFiles }
    private let mayHaveFiles: Bool
    let files: ImageFiles
    private var hashing = 0
    private let bytesMax: Int64
    private let loop: EventLoop
    private let log: AgentLog
    weak var network: PeerNetwork?
    private let node: NodeID
    // hash order: looked up, or read by sorted keys
    private var known: [String: Known] = [:]
    private var pulls: [String: Pull] = [:]
    /// Those that have a file, or will have one; true while something is done with it.
    private var uploads: [ImageFiles.Upload: Bool] = [:]
    private var sends: [UInt64: PeerStream] = [:]
    private var waiting: [UInt64: (Result<ImageFiles.Content, ImageFiles.Failure>) -> Void] = [:]
    private var numberLast: UInt64 = 0
    private var mailbox: Mailbox<News>?
    private(set) var counters = (pulled: 0, damaged: 0, sent: 0, evicted: 0)
    /// How the store asks another node for an image; answers with a refusal, or nil.
    var ask: (NodeID, [UInt8], UInt64, UInt64, @escaping (String?) -> Void) -> Void = { _, _, _, _, done in
        done("nobody can be asked")
    }

    init(_ folder: String, bytesMax: Int64, node: NodeID, _ loop: EventLoop, _ log: AgentLog) throws(AgentFailure) {
        try NodeFiles.makeFolder(folder, isSecret: true)
        files = ImageFiles(folder: folder)
        (self.bytesMax, self.node, self.loop, self.log) = (bytesMax, node, loop, log)
        files.clear()
        mayHaveFiles = !files.sizes().isEmpty
        for upload in files.uploads() { uploads[upload] = false }
        mailbox = loop.makeMailbox(of: News.self, itemsMax: 4_096) { [unowned self] in take($0) }
    }

    /// Runs something that takes time on a thread of its own, and its news here.
    private func start(_ name: String, _ body: @escaping @Sendable () -> News) -> Bool {
        guard let mailbox else { return false }
        do throws(SystemError) {
            _ = try WorkerThread(name) { _ = mailbox.post(body()) }
            return true
        } catch {
            log.warning("an image can't be worked on: \(error)")
            return false
        }
    }

    // MARK: For VMs of this host, and for what it keeps

    /// Whether the image is here and good. Asked again and again, it is made so.
    func want(_ image: RootImage, holders: [NodeID], isUse: Bool = true) -> Readiness {
        let (digest, now) = (image.digest, loop.now)
        var entry = known[digest] ?? Known(usedAt: now)
        if isUse { entry.usedAt = now }
        defer { known[digest] = entry }
        if entry.isBusy { return .pending }
        if let stamp = files.stamp(digest), stamp.size == Int64(clamping: image.size) {
            if let good = entry.good, good.stamp == stamp, now - good.at < ImageStore.trust { return .ready }
            if let failure = entry.failure, now - failure.at < ImageStore.retry { return .failed(failure.reason) }
            entry.isBusy = startHash(digest, stamp)
            return .pending
        }
        if let failure = entry.failure, now - failure.at < ImageStore.retry { return .failed(failure.reason) }
        if pulls.count >= ImageStore.pullsMax { return .pending }
        if isSpaceLow() {
            return .failed("the image \(image.name) is not here, and the disk of this node is nearly full")
        }
        let others = holders.filter { $0 != node }
        let candidates = others.filter { network?.isHeard($0) ?? false }
        let fresh = candidates.filter { !entry.bad.contains($0) }
        if fresh.isEmpty { entry.bad = [] }
        guard !candidates.isEmpty else {
            let why =
                others.isEmpty ? "no node keeps a copy of it" : "no node that keeps a copy of it can be reached"
            entry.failure = ("the image \(image.name) is not here, and \(why)", now)
            return .failed(entry.failure?.reason ?? "")
        }
        let list = fresh.isEmpty ? candidates : fresh
        let from = list[entry.attempts % list.count]
        entry.attempts += 1
        if let reason = pull(image, from) {
            entry.failure = (reason, now)
            return .failed(reason)
        }
        entry.isBusy = true
        return .pending
    }

    /// Why it can't begin; nil when it has.
    private func pull(_ image: RootImage, _ from: NodeID) -> String? {
        guard let network else { return "this node has no network yet" }
        let (digest, size) = (image.digest, Int64(clamping: image.size))
        let offset = min(files.partSize(digest), size)
        if let space = DiskSpace(at: files.folder) {
            let coming = pulls.values.reduce(size - offset) { $0 + $1.rest }
            guard Int64(clamping: space.freeBytes) - coming >= Int64(clamping: space.totalBytes / 20) else {
                return "the image \(image.name) does not fit onto this node's disk and leave a twentieth of it free"
            }
        }
        guard makeRoom(for: size - offset, but: digest) else {
            return
                "the image \(image.name) does not fit into hypervisor.image-cache (\(bytesMax >> 20) MiB) beside what is in use"
        }
        let number = Crypto.randomBytes(7).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        let path = files.socketPath(number)
        let pull = Pull(from, rest: size - offset)
        let (files, cancel) = (files, pull.cancel)
        let listener: Int32
        switch files.listen(path) {
        case .failure(let failure): return failure.description
        case .success(let descriptor): listener = descriptor
        }
        let isStarted = start("image-pull") {
            .pulled(digest, files.receive(digest, size: size, from: offset, listener, path, cancel))
        }
        guard isStarted else { return "no thread could be started" }
        pulls[digest] = pull
        pull.stream = network.receiveStream(StreamName(vm: 0, epoch: number), from: from, connectingTo: path) {
            [weak pull] event in
            guard case .ended(let why) = event, let pull else { return }
            pull.reason = why
            pull.cancel.withLock { $0 = true }
        }
        log.info("an image is pulled", ["image": image.name, "from": "\(from)", "offset": "\(offset)"])
        ask(from, image.sha256, UInt64(offset), number) { [weak pull] refusal in
            guard let refusal, let pull else { return }
            pull.reason = refusal
            pull.cancel.withLock { $0 = true }
        }
        return nil
    }

    /// From whom an image comes, and how much of it is here.
    func progress(_ digest: String) -> (from: NodeID, received: Int64)? {
        pulls[digest].map { ($0.from, files.partSize(digest)) }
    }

    /// Whether its bytes are here, as far as anybody knows.
    func has(_ image: RootImage) -> Bool { files.stamp(image.digest)?.size == Int64(clamping: image.size) }

    // MARK: For other nodes

    /// Sends an image to a node that waits for it. Says why not.
    func send(_ digest: String, from offset: UInt64, number: UInt64, to other: NodeID) -> String? {
        guard let network else { return "this node has no network yet" }
        guard sends.count < ImageStore.sendsMax else { return "it sends as many images as it may; ask again" }
        guard let stamp = files.stamp(digest) else { return "it has no copy" }
        guard let good = known[digest]?.good, good.stamp == stamp else {
            // Nothing goes out that was not looked at.
            check(digest, stamp)
            return "it looks at its copy first; ask again"
        }
        let path = files.socketPath(number)
        let files = files
        sends[number] = network.sendStream(StreamName(vm: 0, epoch: number), to: other, listeningAt: path) {
            [weak self] event in
            guard let self else { return }
            switch event {
            case .open:
                if !start("image-send", { .sent(number, files.send(digest, from: Int64(offset), path)) }) {
                    sends.removeValue(forKey: number)?.close("no thread could be started")
                }
            case .taken:
                counters.sent += 1
                sends[number] = nil
            case .ended: sends[number] = nil
            }
        }
        known[digest]?.usedAt = loop.now
        return nil
    }

    private func check(_ digest: String, _ stamp: FileStamp) {
        var entry = known[digest] ?? Known(usedAt: loop.now)
        guard !entry.isBusy else { return }
        entry.isBusy = startHash(digest, stamp)
        known[digest] = entry
    }

    /// False when as many are looked at as may be at once; then it is asked for again.
    private func startHash(_ digest: String, _ stamp: FileStamp) -> Bool {
        guard hashing < ImageStore.hashingMax else { return false }
        let files = files
        guard start("image-hash", { .hashed(digest, stamp, found: files.hash(digest)) }) else { return false }
        hashing += 1
        return true
    }

    // MARK: From clients

    /// Adds bytes to what a tenant has sent of an image; says how many there are then.
    func append(
        _ upload: ImageFiles.Upload, _ bytes: [UInt8], at offset: Int64,
        _ done: @escaping (Result<ImageFiles.Content, ImageFiles.Failure>) -> Void
    ) {
        if !bytes.isEmpty, uploads[upload] == nil, let refusal = refusal(ofNew: upload) {
            return done(.failure(refusal))
        }
        if !bytes.isEmpty, !makeRoom(for: Int64(bytes.count), but: upload.digest) {
            return done(.failure(.init("hypervisor.image-cache of this node is full (\(bytesMax >> 20) MiB)")))
        }
        let files = files
        work(upload, done) { files.append(upload, bytes, at: offset) }
    }

    private func refusal(ofNew upload: ImageFiles.Upload) -> ImageFiles.Failure? {
        let own = uploads.keys.count { $0.tenant == upload.tenant }  // hash order: only counted
        if own < ImageStore.uploadsPerTenantMax && uploads.count < ImageStore.uploadsMax { return nil }
        return .init(
            "\(own) images of this tenant and \(uploads.count) of all are being sent to this node, and "
                + "\(ImageStore.uploadsPerTenantMax) and \(ImageStore.uploadsMax) may be; complete them, wait an hour, or send it to "
                + "another node")
    }

    /// Makes an image of what a tenant has sent, if its hash is what it should be; says how large it is.
    func complete(
        _ upload: ImageFiles.Upload, _ done: @escaping (Result<ImageFiles.Content, ImageFiles.Failure>) -> Void
    ) {
        let files = files
        let good = known[upload.digest]?.good.flatMap { loop.now - $0.at < ImageStore.trust ? $0.stamp : nil }
        if known[upload.digest] == nil { known[upload.digest] = Known(usedAt: loop.now) }
        known[upload.digest]?.usedAt = loop.now
        work(upload, done) { files.complete(upload, good: good) }
    }

    private func work(
        _ upload: ImageFiles.Upload, _ done: @escaping (Result<ImageFiles.Content, ImageFiles.Failure>) -> Void,
        _ body: @escaping @Sendable () -> Result<ImageFiles.Content, ImageFiles.Failure>
    ) {
        if uploads[upload] == true {
            return done(.failure(.init("what came before of this image is still being worked on; ask again")))
        }
        guard waiting.count < ImageStore.workMax else {
            return done(.failure(.init("this node works on as many images as it may; ask again")))
        }
        numberLast += 1
        let number = numberLast
        waiting[number] = { [weak self] result in
            guard let self else { return }
            uploads[upload] = files.stamp(upload.name) == nil ? nil : false
            done(result)
        }
        uploads[upload] = true
        if !start("image-work", { .done(number, body()) }) {
            waiting.removeValue(forKey: number)?(.failure(.init("no thread could be started")))
        }
    }

    // MARK: What threads say

    private func take(_ news: News) {
        switch news {
        case .hashed(let digest, let stamp, let found):
            hashing -= 1
            known[digest]?.isBusy = false
            if found == digest, let stamp {
                known[digest]?.good = (stamp, loop.now)
            } else if found == nil {
                // Which says nothing about its bytes.
                known[digest]?.failure = ("an image on this disk can't be read; see the disk", loop.now)
                log.warning("an image on this disk can't be read", ["sha256": digest])
            } else {
                counters.damaged += 1
                files.remove(digest)
                log.warning(
                    "an image on this disk was damaged, and is pulled again when it is wanted", ["sha256": digest])
            }
        case .pulled(let digest, let outcome): take(digest, outcome)
        case .sent(let number, let problem):
            if let problem { sends.removeValue(forKey: number)?.close(problem) }
        case .done(let number, let result): waiting.removeValue(forKey: number)?(result)
        }
    }

    private func take(_ digest: String, _ outcome: ImageFiles.Outcome) {
        guard let pull = pulls.removeValue(forKey: digest) else { return }
        known[digest]?.isBusy = false
        switch outcome {
        case .whole(let stamp):
            counters.pulled += 1
            pull.stream?.tellTaken()
            known[digest]?.good = (stamp, loop.now)
            known[digest]?.failure = nil
            known[digest]?.bad = []
            log.info("an image was pulled", ["sha256": digest, "from": "\(pull.from)"])
        case .damaged:
            counters.damaged += 1
            pull.stream?.close("what came has another hash")
            known[digest]?.bad.insert(pull.from)
            log.warning("an image came damaged, and is pulled anew", ["sha256": digest, "from": "\(pull.from)"])
        case .short(let problem):
            let reason = pull.reason ?? problem
            pull.stream?.close(reason)
            known[digest]?.failure = ("the image could not be pulled from node \(pull.from): \(reason)", loop.now)
        }
    }

    // MARK: Room

    /// Whether nothing more is to be written here; set by the agent.
    var isSpaceLow: () -> Bool = { false }
    /// Files that stay, by what they are called; set by the agent.
    var pinned: () -> Set<String> = { [] }

    /// True when so many more bytes fit, perhaps after others went.
    private func makeRoom(for bytes: Int64, but digest: String) -> Bool {
        var sizes = files.sizes()
        var total = sizes.reduce(bytes) { $0 + $1.size }
        if total <= bytesMax { return true }
        let pinned = pinned()
        sizes.removeAll { file in
            if let upload = ImageFiles.Upload(name: file.name) {
                // What somebody is sending makes no room for others.
                return uploads[upload] == true || files.age(file.name) <= ImageStore.lowSpacePatience
            }
            return file.digest == digest || pinned.contains(file.digest) || known[file.digest]?.isBusy ?? false
        }
        sizes.sort { (known[$0.digest]?.usedAt ?? .origin, $0.name) < (known[$1.digest]?.usedAt ?? .origin, $1.name) }
        for file in sizes where total > bytesMax {
            removeFile(file.name, file.digest)
            counters.evicted += 1
            total -= file.size
        }
        return total <= bytesMax
    }

    private func removeFile(_ name: String, _ digest: String) {
        files.removeFile(name)
        if let upload = ImageFiles.Upload(name: name) {
            uploads[upload] = nil
        } else if name == digest {
            known[digest] = nil
        }
    }

    /// Takes away whole images that no catalogue names and no VM here uses, a while after they came, and what was begun and
    /// not gone on with: sooner while the disk is nearly full.
    func forget(but named: Set<String>) {
        let kept = named.union(pinned())
        let patience = isSpaceLow() ? ImageStore.lowSpacePatience : ImageStore.uploadPatience
        for file in files.sizes() {
            let age = files.age(file.name)
            if file.name == file.digest {
                guard !kept.contains(file.digest), age > 600, !(known[file.digest]?.isBusy ?? false) else { continue }
            } else if let upload = ImageFiles.Upload(name: file.name) {
                guard age > patience, uploads[upload] != true else { continue }
                log.info("what was sent of an image is gone, since nobody completed it", ["sha256": file.digest])
            } else {
                guard age > patience, pulls[file.digest] == nil else { continue }
            }
            removeFile(file.name, file.digest)
        }
    }
}
