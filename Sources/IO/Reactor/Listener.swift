internal import ClusterBase

/// Accepts connections on one address and hands each to its handler.
package final class Listener: ReadinessHandler, TimerHandler {
    package let address: SocketAddress
    package private(set) var accepted: UInt64 = 0
    /// How often the process had no descriptor left for a connection.
    package private(set) var exhausted: UInt64 = 0

    /// Accepted in one turn, so that a flood of connections delays the others by a bound.
    package static let acceptsPerTurnMax = 64
    /// After running out of descriptors: trying again at once would spin.
    static let pause = Nanoseconds.milliseconds(100)

    private let loop: EventLoop
    private var socket: Socket?
    private var watch: Watch?
    private var timer: TimerID?
    private var handler: ((consuming Socket, SocketAddress) -> Void)?

    /// Listens at once.
    package init(
        _ loop: EventLoop, on address: SocketAddress, _ handler: @escaping (consuming Socket, SocketAddress) -> Void
    ) throws(SystemError) {
        self.loop = loop
        self.handler = handler
        let socket = try Socket.listening(on: address)
        self.address = socket.localAddress ?? address
        self.socket = consume socket
        watch = try self.socket?.watched(by: loop, self)
    }

    package func ready(_ readiness: Readiness) {
        var from = address
        for _ in 0..<Listener.acceptsPerTurnMax {
            do throws(SystemError) {
                guard let connection = try socket?.accept(from: &from) else { return }
                accepted += 1
                handler?(connection, from)
            } catch {
                exhausted += 1
                if let watch { loop.change(watch, to: []) }
                timer = loop.setTimer(after: Listener.pause, self, tag: 0)
                return
            }
            if watch == nil { return }
        }
    }

    package func timerFired(_ tag: Int) {
        timer = nil
        if let watch { loop.change(watch, to: .readable) }
    }

    /// Stops listening; connections that were accepted live on.
    package func close() {
        if let watch { loop.unwatch(watch) }
        if let timer { loop.cancel(timer) }
        watch = nil
        timer = nil
        socket = nil
        handler = nil
    }
}
