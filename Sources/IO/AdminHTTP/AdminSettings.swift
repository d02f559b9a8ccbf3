package import AdminAPI
package import ClusterBase
internal import SecureChannel

/// The bounds and times of an admin server.
package struct AdminSettings: Hashable, Sendable {
    package var limits = AdminLimits()
    /// A request that nobody answers: the client is told that its outcome is unknown.
    package var answerTimeout = Nanoseconds.seconds(30)
    package var handshakeTimeout = Nanoseconds.seconds(5)
    /// Bytes of requests that are not complete, on all connections together: a larger one is told 503 then.
    package var heldBytesMax = 128 << 20
    /// What one connection may hold whatever the others do.
    package var heldBytesFree = 32 << 10
    /// Connections beyond the bound that are told so at once; more are just closed.
    package var turnAwayMax = 64
    /// Requests per second of one client, known by its certificate or its token, on all its connections together and from
    /// wherever they come; what was not used of one second may be used in the next. More are told 429.
    package var requestRateMax = 100_000
    /// The same of one address, for those who show nothing, or nothing that counts.
    package var strangerRateMax = 1_000
    /// Clients that are remembered; those that asked nothing lately are forgotten first.
    package var clientsMax = 16_384
    /// What OpenAPI calls the version.
    package var version = "0"

    package init() {}

    /// ALPN's word for what is spoken here; contexts of servers and clients offer it.
    package static let protocols = ["http/1.1"]

    var connection: SecureConnectionSettings {
        var settings = SecureConnectionSettings()
        settings.handshakeTimeout = handshakeTimeout
        settings.closeTimeout = min(limits.sendTimeout, limits.drainTimeout)
        settings.outputHighWater = limits.sendBufferBytesMax
        // Every request that was taken gets its answer, however large each is.
        settings.outputBytesMax = limits.sendBufferBytesMax + limits.pipelinedMax * 2 * limits.bodyBytesMax
        // One connection delays the others by no more than this.
        settings.bytesPerTurnMax = 256 << 10
        settings.isCrowd = true
        return settings
    }
}
