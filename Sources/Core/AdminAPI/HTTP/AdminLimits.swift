package import ClusterBase
internal import FleetModel

/// Every bound of the admin port, in one place. What lies beyond one is refused with a problem that names it.
package struct AdminLimits: Hashable, Sendable {
    /// The request line up to its line feed. A key of 1,024 bytes, all of them percent-encoded, takes 3,072.
    package var requestLineBytesMax = 8 << 10
    /// Request line, header fields and the empty line together; trailers the same again.
    package var headBytesMax = 16 << 10
    package var headerCountMax = 64
    /// A key's value, the largest body there is.
    package var bodyBytesMax = SpaceLimits.valueBytesMax
    /// A batch of VMs, and a part of an image; each has a route of its own.
    package var batchBodyBytesMax = 8 << 20
    package var batchValuesMax = 1 << 20
    /// A chunk's size with its extensions.
    package var chunkLineBytesMax = 256
    /// What decoded chunks may leave behind in the buffer before it is closed up.
    package var chunkSlackBytesMax = 64 << 10
    package var queryParametersMax = 16
    package var jsonBodyBytesMax = 64 << 10
    package var jsonDepthMax = 16
    package var jsonValuesMax = 4_096
    /// A stale read may ask for no more.
    package var staleMax = Nanoseconds.seconds(3_600)
    /// The names of spaces, nodes, tokens and what is in a cell.
    package static let nameBytesMax = 63

    /// Connections at once; one more is told 503 and closed.
    package var connectionsMax = 4_096
    /// Requests of one connection that wait for their answers; its further bytes stay in the socket.
    package var pipelinedMax = 32
    /// Bytes that wait to be sent on one connection: beyond, no more requests are read and streams pause.
    package var sendBufferBytesMax = 1 << 20
    /// From a request's first byte to its last header, and again to the end of its body.
    package var headTimeout = Nanoseconds.seconds(10)
    package var bodyTimeout = Nanoseconds.seconds(60)
    /// A connection without a request under way.
    package var idleTimeout = Nanoseconds.seconds(180)
    /// A connection that takes none of the bytes that wait for it.
    package var sendTimeout = Nanoseconds.seconds(60)
    /// A stream that waits for its reader to take what was sent; it is told so then, and cut.
    package var streamTimeout = Nanoseconds.seconds(30)
    /// What it gets to read that.
    package var streamGrace = Nanoseconds.seconds(60)
    /// What a drain waits for requests that are under way.
    package var drainTimeout = Nanoseconds.seconds(10)
    /// How long a drain keeps connections on which nothing is asked: a request that is on its way then is still answered.
    package var drainGrace = Nanoseconds.milliseconds(200)

    package init() {}
    package static let standard = AdminLimits()

    static let batchPath = Array("/v1/vms/batch".utf8)
    /// The other route with bodies of that size.
    static let partPath = Array("/v1/images/parts".utf8)
}
