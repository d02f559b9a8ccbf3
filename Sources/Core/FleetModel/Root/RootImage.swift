internal import BinaryCoding
package import ClusterBase
internal import Schema

/// A disk image by its name: what is in it, and which nodes keep a whole copy for the others.
package struct RootImage: Hashable, Sendable {
    /// How an image goes: nobody may name it any more, then all cells are asked whether a VM does, then it is gone.
    package enum Removal: Int32, Hashable, Sendable, CaseIterable { case begin = 1, finish, cancel }

    /// Nodes that keep a copy; more are not noted.
    package static let holdersMax = 16

    /// Whose it is; empty: every tenant may use it.
    package var tenant: String
    package var name: String
    /// Of its bytes, which never change under this name.
    package var sha256: [UInt8]
    package var size: UInt64
    /// Ascending.
    package var holders: [NodeID]
    /// It is to go: no VM may name it.
    package var isLeaving = false
    /// Which removal is under way: the revision of the command that began it. Another one takes its place.
    package var removal: UInt64 = 0
    package var createdAt: LogTime
    package var createdBy: String
    package init(
        tenant: String, name: String, sha256: [UInt8], size: UInt64, holders: [NodeID] = [],
        createdAt: LogTime = .zero, createdBy: String = ""
    ) {
        self.tenant = tenant
        self.name = name
        self.sha256 = sha256
        self.size = size
        self.holders = holders
        self.createdAt = createdAt
        self.createdBy = createdBy
    }

    /// What the image's bytes are called on a disk.
    package var digest: String { sha256.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() }
}

extension RootImage: RootRecord, RootMapped {
    package static var table: RootTable { .images }
    package var rowKey: [UInt8] { Self.key(tenant, name) }
    package static func key(_ tenant: String, _ name: String) -> [UInt8] {
        table.key(Array(tenant.utf8) + [0] + Array(name.utf8))
    }

    init?(_ wire: WireRootImage) {
        self.init(
            tenant: wire.tenant, name: wire.name, sha256: wire.sha256, size: wire.size,
            holders: wire.holders.map { NodeID($0) }, createdAt: LogTime(wire.createdAt), createdBy: wire.createdBy)
        isLeaving = wire.isLeaving
        removal = wire.removal
    }
    var wire: WireRootImage {
        WireRootImage(
            name: name, tenant: tenant, sha256: sha256, size: size, holders: holders.map(\.rawValue),
            isLeaving: isLeaving, createdAt: createdAt.rawValue, createdBy: createdBy, removal: removal)
    }
}

extension RootView {
    /// The image that a tenant's VM means by a name: the tenant's own, or everybody's.
    package func image(_ name: String, for tenant: String) -> RootImage? {
        images.first { $0.name == name && $0.tenant == tenant } ?? images.first { $0.name == name && $0.tenant.isEmpty }
    }
}
