internal import ClusterBase
package import FleetModel
internal import Reactor

/// A line to a guest's serial console, for typing: what the guest writes is in its log. Belongs to the loop's thread.
final class ConsoleLine: ReadinessHandler {
    /// What a guest that reads nothing may leave unsent.
    static let unsentBytesMax = 16_384
    /// Nobody typed for so long.
    static let idleMax = Nanoseconds.seconds(30)

    private let loop: EventLoop
    private let socket: Socket
    private var watch: Watch?
    private var unsent: [UInt8] = []
    private var session = ""
    private var typedCount: Int64 = 0
    private(set) var usedAt: Instant

    init(_ loop: EventLoop, path: String) throws(SystemError) {
        self.loop = loop
        usedAt = loop.now
        socket = try Socket.connected(toPath: path)
        watch = try socket.watched(by: loop, self)
    }

    var isOpen: Bool { watch != nil }

    /// False when the guest takes nothing in. What this session typed before counts once.
    func type(_ bytes: [UInt8], session: String, before: Int64) -> Bool {
        usedAt = loop.now
        if session != self.session { (self.session, typedCount) = (session, before) }
        let known = max(0, min(Int64(bytes.count), typedCount - before))
        let fresh = bytes.dropFirst(Int(known))
        if unsent.count + fresh.count > ConsoleLine.unsentBytesMax { return false }
        typedCount = max(typedCount, before + Int64(bytes.count))
        unsent += fresh
        flush()
        return true
    }

    func close() {
        guard let watch else { return }
        loop.unwatch(watch)
        self.watch = nil
    }

    private func flush() {
        guard let watch else { return }
        while !unsent.isEmpty {
            switch unsent.withUnsafeBytes({ socket.write($0) }) {
            case .bytes(let count): unsent.removeFirst(count)
            case .notNow: return loop.change(watch, to: [.readable, .writable])
            case .ended, .failed: return close()
            }
        }
        loop.change(watch, to: .readable)
    }

    func ready(_ readiness: Readiness) {
        if readiness.contains(.writable) { flush() }
        while isOpen {
            switch socket.read(into: loop.scratch) {
            // It is in the log, too, and a console that nobody reads stops the guest.
            case .bytes: break
            case .notNow:
                if readiness.contains(.hangup) { close() }
                return
            case .ended, .failed: return close()
            }
        }
    }
}

extension QEMUHypervisor {
    /// Types into a VM's console. Says why that can't be, or nil.
    package func type(_ bytes: [UInt8], into vm: VMID, session: String, before: Int64) -> String? {
        for other in consoles.keys.sorted() {
            guard let line = consoles[other], !line.isOpen || loop.now - line.usedAt > ConsoleLine.idleMax else {
                continue
            }
            line.close()
            consoles[other] = nil
        }
        let line: ConsoleLine
        if let known = consoles[vm] {
            line = known
        } else {
            if consoles.count >= QEMUHypervisor.consolesMax {
                return "too many consoles of this host are in use; try again soon"
            }
            do throws(SystemError) {
                line = try ConsoleLine(loop, path: VMDirectory(vm, in: settings.directory).consolePath)
            } catch {
                return "the VM does not run on this host now: \(error)"
            }
            consoles[vm] = line
        }
        return line.type(bytes, session: session, before: before) ? nil : "the guest does not read what is typed"
    }

    static let consolesMax = 64

    /// Lines end with their loop's owner.
    package func closeConsoles() {
        for vm in consoles.keys.sorted() { consoles[vm]?.close() }
        consoles = [:]
    }
}
