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
    /// Of the disk that a guest sees; 0 where nobody looked.
    package var guestBytes: UInt64 = 0
    package var isQCOW2 = false
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

    /// What a disk that begins with it has at least, in MiB.
    package var diskMiB: Int64 {
        let bytes = guestBytes > 0 ? guestBytes : isQCOW2 ? 0 : size
        return Int64(clamping: bytes >> 20) + (bytes & 0xF_FFFF == 0 ? 0 : 1)
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
        guestBytes = wire.guestBytes
        isQCOW2 = wire.isQcow2
    }
    var wire: WireRootImage {
        WireRootImage(
            name: name, tenant: tenant, sha256: sha256, size: size, holders: holders.map(\.rawValue),
            isLeaving: isLeaving, createdAt: createdAt.rawValue, createdBy: createdBy, removal: removal,
            guestBytes: guestBytes, isQcow2: isQCOW2)
    }
}

/// What the first bytes of an image say of it.
package struct ImageHead: Hashable, Sendable {
    package static let byteCount = 104
    package var isQCOW2: Bool
    /// Of the disk that a guest sees.
    package var guestBytes: UInt64
    /// The file needs others: whoever reads it reads those.
    package var namesOthers = false

    /// `size` is that of the file.
    package init(_ head: [UInt8], size: UInt64) {
        isQCOW2 = head.count >= ImageHead.byteCount && head[..<4].elementsEqual([0x51, 0x46, 0x49, 0xFB])
        guestBytes = size
        guard isQCOW2 else { return }
        guestBytes = head[24..<32].reduce(0) { $0 << 8 | UInt64($1) }
        // Bit 2 of the incompatible features: the data lie in another file.
        namesOthers = head[8..<16].contains { $0 != 0 } || (head[7] >= 3 && head[79] & 4 != 0)
    }
}

extension RootView {
    /// The image that a tenant's VM means by a name: the tenant's own, or everybody's.
    package func image(_ name: String, for tenant: String) -> RootImage? {
        images.first { $0.name == name && $0.tenant == tenant } ?? images.first { $0.name == name && $0.tenant.isEmpty }
    }

    /// Whether no image that a VM may have begun with is being removed. False while nothing is known.
    package func imagesStay(_ vm: CellVM) -> Bool {
        let names = vm.spec.imageNames
        if names.isEmpty { return true }
        guard through != nil else { return false }
        return !images.contains { image in
            image.isLeaving && names.contains(image.name) && [vm.tenant, ""].contains(image.tenant)
        }
    }
}
