internal import ClusterBase
internal import Glibc
package import Reactor
internal import Schema
internal import SecureChannel

/// What a stream carries: the memory of a VM on its way to where it has this epoch, or one of its disks.
package struct StreamName: Hashable, Sendable, CustomStringConvertible {
    package var vm: UInt64
    package var epoch: UInt64
    /// Counted from 1; zero is the memory.
    package var disk: UInt32
    package init(vm: UInt64, epoch: UInt64, disk: UInt32 = 0) {
        self.vm = vm
        self.epoch = epoch
        self.disk = disk
    }
    package var description: String { (disk == 0 ? "" : "disk \(disk) of ") + "VM \(vm) under epoch \(epoch)" }
    /// The programs talk: what the receiver's answers goes back.
    var isTalk: Bool { disk != 0 }
}

package enum StreamEvent: Hashable, Sendable {
    /// To the sender: the receiver waits, and what the first to connect to the path writes is carried.
    case open
    /// To the sender: all of it was taken in at the other end. The last event.
    case taken
    /// With one sentence. The last event.
    case ended(String)
}

/// One stream of bytes from a program on one node's machine to a program on another's, each at a socket in a directory that
/// only its agent sees. Belongs to the loop's thread.
///
///     sender:    reaching ── GO ─▶ listening ── a program connects ─▶ carrying ── TAKEN ─▶ over
///                  ▲ └─ refused, broken: again, for a while
///     receiver:  unclaimed ── claimed ─┐
///                expected ── arrived ──┴▶ carrying ── tellTaken ─▶ taken ── the sender lets go ─▶ over
///
/// It is over, too, whenever its connection breaks, either end closes it, or a bound of `PeerSettings` is reached. The end of
/// what a program writes ends nothing: the owners know what that end means. Only a talk (`isTalk`) ends with either program.
package final class PeerStream: ReadinessHandler, TimerHandler {
    enum State {
        case reaching, listening
        case unclaimed, expected
        case carrying, taken
        case over
    }

    package let name: StreamName
    package let isSender: Bool
    /// The node at the other end.
    let node: NodeID
    /// Of this end, before encryption.
    package private(set) var bytesCarried: UInt64 = 0
    private(set) var state: State
    private let network: PeerNetwork
    private var path = ""
    private var handler: ((StreamEvent) -> Void)?
    private(set) var connection: PeerConnection?
    private var dialer: Dialer?
    private var attempts = 0
    private var failure = "it does not wait for it"
    private var limitTimer: TimerID?
    private var soonTimer: TimerID?

    private var listener: Socket?
    private var local: Socket?
    /// Of the listener, and then of the program's socket.
    private var watch: Watch?
    /// The program has written something.
    private(set) var isReadable = false
    /// The program's end is closed, and the system tells nothing more of it.
    private var isHungUp = false
    /// The program does not take what is there for it.
    private var isBlocked = false
    /// To the sender's program, which has not taken them.
    private var answers: [UInt8] = []
    /// Of answers that wait for the sender's program; then no more are read.
    private static let answersMax = 64 << 10
    /// Of answers in one word. Words are not compressed, and so are shorter than what would be.
    private static let answerBytesMax = 2 << 10

    private static let limitTag = 0
    private static let reachTag = 1
    private static let beginTag = 2
    private static let talkTag = 3

    /// A sender.
    init(
        _ network: PeerNetwork, _ name: StreamName, to node: NodeID, path: String,
        _ handler: @escaping (StreamEvent) -> Void
    ) {
        (self.network, self.name, self.node, self.path, self.handler) = (network, name, node, path, handler)
        (isSender, state) = (true, .reaching)
        setLimit(network.settings.streamReachMax)
        setSoon(PeerStream.reachTag, after: .zero)
    }

    /// A receiver.
    init(_ network: PeerNetwork, _ name: StreamName, from node: NodeID) {
        (self.network, self.name, self.node) = (network, name, node)
        (isSender, state) = (false, .expected)
    }

    private var loop: EventLoop { network.loop }

    private func setLimit(_ time: Nanoseconds) {
        if let limitTimer { loop.cancel(limitTimer) }
        limitTimer = loop.setTimer(after: time, self, tag: PeerStream.limitTag)
    }

    private func setSoon(_ tag: Int, after time: Nanoseconds) {
        if let soonTimer { loop.cancel(soonTimer) }
        soonTimer = loop.setTimer(after: time, self, tag: tag)
    }

    package func timerFired(_ tag: Int) {
        switch tag {
        case PeerStream.limitTag:
            limitTimer = nil
            switch state {
            case .reaching: finish("node \(node) did not take the stream in time: \(failure)")
            case .listening: finish("nobody wrote to it in time")
            case .unclaimed: network.dropUnclaimed(self)
            default: tearDown()
            }
        case PeerStream.reachTag:
            soonTimer = nil
            reach()
        case PeerStream.talkTag:
            soonTimer = nil
            let reason = "the program at its \(isSender ? "beginning" : "end") has closed it"
            isSender ? finish(reason) : fail(reason)
        default:
            soonTimer = nil
            begin()
        }
    }

    // MARK: The sender's way to the receiver

    private func reach() {
        guard state == .reaching, connection == nil, dialer == nil else { return }
        guard let peer = network.known(node), !peer.addresses.isEmpty else {
            return again("no address of node \(node) is known")
        }
        let address = peer.addresses[attempts % peer.addresses.count]
        let attempt = attempts
        attempts += 1
        network.resolver.resolve(address) { [weak self] outcome in
            guard let self, state == .reaching, connection == nil, dialer == nil else { return }
            switch outcome {
            case .failed(let reason): again(reason)
            case .found(let found): connect(found[attempt % found.count])
            }
        }
    }

    private func connect(_ address: SocketAddress) {
        dialer = Dialer(loop, to: address, timeout: network.settings.connectTimeout) { [weak self] socket, error in
            guard let self else { return }
            dialer = nil
            guard let socket else { return again(error?.description ?? "no connection") }
            let made = network.makeConnection(isDialed: true, lane: .stream, node: node, address)
            made.stream = self
            connection = made
            do {
                try made.start(socket, network.clientContext)
            } catch {
                drop()
                again("\(error)")
            }
        }
    }

    private func again(_ reason: String) {
        failure = reason
        if state == .reaching { setSoon(PeerStream.reachTag, after: PeerNetwork.streamRetry) }
    }

    /// The receiver's word.
    func take(_ word: PeerStreamWord) {
        switch (word.kind, state) {
        case (.go, .reaching): listen()
        case (.taken, .carrying): tell(.taken)
        case (.answer, .carrying) where name.isTalk, (.answer, .listening) where name.isTalk: take(answer: word.bytes)
        case (.failed, _): finish("node \(node) does not take it: \(word.reason)")
        default: finish("node \(node) said what does not belong here")
        }
    }

    private func listen() {
        do throws(SystemError) {
            listener = try Socket.listening(onPath: path)
            watch = try listener?.watched(by: loop, self)
        } catch {
            return finish(error.description)
        }
        state = .listening
        setLimit(network.settings.streamReachMax)
        handler?(.open)
    }

    private func accept() {
        var from = SocketAddress.loopback()
        do throws(SystemError) {
            guard let socket = try listener?.accept(from: &from) else { return }
            stopListening()
            local = consume socket
            watch = try local?.watched(by: loop, self)
        } catch {
            return finish(error.description)
        }
        if let limitTimer { loop.cancel(limitTimer) }
        limitTimer = nil
        state = .carrying
        handOnAnswers()
    }

    private func stopListening() {
        unwatch()
        guard listener != nil else { return }
        listener = nil
        unlink(path)
    }

    // MARK: The receiver's beginning

    /// The connection that brings it.
    func bind(_ connection: PeerConnection) {
        drop()
        connection.stream = self
        self.connection = connection
        if handler == nil {
            state = .unclaimed
            setLimit(network.settings.streamClaimMax)
        } else {
            setSoon(PeerStream.beginTag, after: .zero)
        }
    }

    /// Whoever waits for it, at a path where a program listens.
    func claim(_ path: String, _ handler: @escaping (StreamEvent) -> Void) {
        self.path = path
        self.handler = handler
        if let limitTimer { loop.cancel(limitTimer) }
        limitTimer = nil
        state = .expected
        if connection != nil { setSoon(PeerStream.beginTag, after: .zero) }
    }

    var isClaimed: Bool { handler != nil }

    private func begin() {
        guard state == .expected, connection != nil else { return }
        do throws(SystemError) {
            local = try Socket.connected(toPath: path)
            watch = try local?.watched(by: loop, for: name.isTalk ? .readable : [], self)
        } catch {
            return fail(error.description)
        }
        state = .carrying
        say(.go)
    }

    private func say(_ kind: PeerStreamWord.Kind, _ reason: String = "") {
        connection?.say(.streamWord, PeerStreamWord(version: 1, kind: kind, reason: String(reason.prefix(500))))
    }

    /// The program has taken in all of it, and the sender may know.
    package func tellTaken() {
        guard !isSender, state == .carrying else { return }
        state = .taken
        say(.taken)
        unwatch()
        local = nil
        setLimit(network.settings.streamClaimMax)
    }

    // MARK: Carrying

    package func ready(_ readiness: Readiness) {
        if listener != nil { return accept() }
        if readiness.contains(.hangup) {
            isHungUp = true
            unwatch()
        }
        let isWritable = isBlocked && (readiness.contains(.writable) || isHungUp)
        if isWritable { isBlocked = false }
        if name.isTalk ? readiness.contains(.readable) || isHungUp : isSender {
            isReadable = true
            network.pumpBulk()
        }
        setInterest()
        if isSender {
            if isWritable { handOnAnswers() }
        } else if isWritable || isHungUp {
            connection?.secure?.resumeReading()
        }
    }

    /// True when bytes wait that the connection has room for.
    var wantsPump: Bool {
        guard isReadable, let connection, connection.isWritable else { return false }
        return !isSender || connection.bytesQueued < PeerNetwork.bulkAheadBytes
    }

    /// Hands on one buffer of what the program wrote; gives the count of the bytes.
    func pump() -> Int {
        guard wantsPump, let connection else { return 0 }
        let room = isSender ? loop.scratch.count : min(PeerStream.answerBytesMax, loop.scratch.count)
        switch local?.read(into: UnsafeMutableRawBufferPointer(rebasing: loop.scratch[..<room])) ?? .ended {
        case .bytes(let count):
            let bytes = UnsafeRawBufferPointer(rebasing: loop.scratch[..<count])
            if isSender {
                _ = connection.secure?.write(bytes)
                bytesCarried += UInt64(count)
            } else {
                connection.say(.streamWord, PeerStreamWord(version: 1, kind: .answer, bytes: Array(bytes)))
            }
            return count
        case .notNow where !isHungUp:
            isReadable = false
            setInterest()
        case .notNow, .ended, .failed:
            isReadable = false
            unwatch()
            local = nil
            if name.isTalk { endTalk() }
        }
        return 0
    }

    /// Nobody is left to talk with. Not within a round of the network's over its streams.
    private func endTalk() { setSoon(PeerStream.talkTag, after: .zero) }

    private func take(answer bytes: [UInt8]) {
        if state == .carrying && local == nil { return }
        answers += bytes
        handOnAnswers()
    }

    /// To the sender's program, as far as it takes them.
    private func handOnAnswers() {
        while !answers.isEmpty, !isBlocked, local != nil {
            switch answers.withUnsafeBytes({ local?.write($0) ?? .ended }) {
            case .bytes(let count): answers.removeFirst(count)
            case .notNow where !isHungUp:
                isBlocked = true
                setInterest()
            case .notNow, .ended, .failed:
                answers = []
                // What it still wrote is read first.
                isReadable = true
                network.pumpBulk()
            }
        }
        if answers.count > PeerStream.answersMax {
            connection?.secure?.pauseReading()
        } else if name.isTalk {
            connection?.secure?.resumeReading()
        }
    }

    /// Hands what arrived to the program; gives the count of the bytes that it took.
    func take(_ bytes: [UInt8], from: Int, to: Int) -> Int {
        var at = from
        while at < to, local != nil {
            let outcome = bytes.withUnsafeBytes { all in
                local?.write(UnsafeRawBufferPointer(rebasing: all[at..<to])) ?? .ended
            }
            switch outcome {
            case .bytes(let count):
                at += count
                bytesCarried += UInt64(count)
            case .notNow where !isHungUp:
                connection?.secure?.pauseReading()
                isBlocked = true
                setInterest()
                return at - from
            case .notNow, .ended, .failed:
                unwatch()
                local = nil
                if name.isTalk { endTalk() }
            }
        }
        // The program is gone: its owner finds out why, and the rest is nobody's.
        return to - from
    }

    private func setInterest() {
        guard let watch else { return }
        var wanted: Readiness = []
        if (isSender || name.isTalk) && !isReadable { wanted.insert(.readable) }
        if isBlocked { wanted.insert(.writable) }
        loop.change(watch, to: wanted)
    }

    private func unwatch() {
        if let watch { loop.unwatch(watch) }
        watch = nil
    }

    // MARK: The end

    /// Its connection is over.
    func connectionEnded(_ reason: String) {
        connection = nil
        switch state {
        case .reaching: again(reason)
        case .unclaimed, .taken: tearDown()
        case .listening, .carrying: finish(reason)
        // Its sender comes again.
        case .expected, .over: break
        }
    }

    /// Ends it, and tells nothing more here. The other end gets the reason.
    package func close(_ reason: String) {
        switch state {
        case .over: return
        case .expected, .carrying: isSender ? tearDown() : leave(reason)
        case .reaching, .listening, .unclaimed, .taken: tearDown()
        }
    }

    private func leave(_ reason: String) {
        say(.failed, reason)
        if let connection {
            self.connection = nil
            connection.stream = nil
            network.seeOff(connection, reason)
        }
        tearDown()
    }

    private func fail(_ reason: String) {
        let handler = self.handler
        leave(reason)
        handler?(.ended(reason))
    }

    private func finish(_ reason: String) { tell(.ended(reason)) }

    private func tell(_ last: StreamEvent) {
        let handler = self.handler
        tearDown()
        handler?(last)
    }

    private func drop() {
        connection?.stream = nil
        connection?.end()
        connection = nil
    }

    /// Ends everything without a word.
    func tearDown() {
        guard state != .over else { return }
        state = .over
        for timer in [limitTimer, soonTimer] { if let timer { loop.cancel(timer) } }
        (limitTimer, soonTimer) = (nil, nil)
        dialer?.cancel()
        dialer = nil
        drop()
        stopListening()
        local = nil
        isReadable = false
        handler = nil
        network.forget(self)
    }
}
