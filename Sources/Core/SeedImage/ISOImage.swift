/// A small file system image that any operating system reads: ISO 9660, with the names as they are in its Joliet part. A few
/// files in the root directory; equal files give equal bytes.
///
///     sector 16      17        18    19 20 21 22      23         24          25 …
///     primary   with names   end    path tables   root twice: short names,  files, each from a sector on
///     descriptor  (Joliet)                         and names as they are
package struct ISOImage: Hashable, Sendable {
    package struct File: Hashable, Sendable {
        package var name: String
        package var bytes: [UInt8]
        package init(_ name: String, _ bytes: [UInt8]) {
            self.name = name
            self.bytes = bytes
        }
    }

    /// What an image is refused for.
    package enum Refusal: Error, Hashable, Sendable {
        case name(String)
        case tooMany
        case tooLarge
    }

    package static let sectorBytes = 2_048
    package static let filesMax = 8
    package static let fileBytesMax = 16 << 20
    /// Letters, digits, dots, dashes and underscores.
    package static let nameBytesMax = 24
    private static let firstFileSector = 25

    package let bytes: [UInt8]

    /// `label` names the volume: at most 16 such characters.
    package init(label: String, _ files: [File]) throws(Refusal) {
        guard ISOImage.isName(label), label.utf8.count <= 16 else { throw .name(label) }
        guard files.count <= ISOImage.filesMax else { throw .tooMany }
        let sorted = files.sorted { $0.name < $1.name }
        for (at, file) in sorted.enumerated() {
            let isTwice = at > 0 && ISOImage.short(sorted[at - 1].name) == ISOImage.short(file.name)
            guard ISOImage.isName(file.name), !isTwice else { throw .name(file.name) }
            guard file.bytes.count <= ISOImage.fileBytesMax else { throw .tooLarge }
        }
        var sector = ISOImage.firstFileSector
        var placed: [(file: File, sector: Int)] = []
        for file in sorted {
            placed.append((file, sector))
            sector += max(1, ISOImage.sectors(file.bytes.count))
        }
        var image = [UInt8](repeating: 0, count: 16 * ISOImage.sectorBytes)
        image += ISOImage.descriptor(label, sectors: sector, isJoliet: false)
        image += ISOImage.descriptor(label, sectors: sector, isJoliet: true)
        image += ISOImage.padded([255] + Array("CD001".utf8) + [1])
        for (root, isLittle) in [(23, true), (23, false), (24, true), (24, false)] {
            image += ISOImage.padded(ISOImage.pathTable(root: root, isLittle: isLittle))
        }
        for isJoliet in [false, true] { image += ISOImage.directory(placed, isJoliet: isJoliet) }
        for (file, _) in placed { image += ISOImage.padded(file.bytes.isEmpty ? [0] : file.bytes) }
        bytes = image
    }

    // MARK: Names

    private static func isName(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        return (1...nameBytesMax).contains(bytes.count)
            && bytes.allSatisfy { byte in
                (0x61...0x7A).contains(byte | 0x20) || (0x30...0x39).contains(byte)
                    || byte == UInt8(ascii: "-") || byte == UInt8(ascii: "_") || byte == UInt8(ascii: ".")
            }
    }

    /// As readers of the plain part know it.
    private static func short(_ name: String) -> [UInt8] {
        let plain = name.uppercased().utf8.map { byte in
            byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".") ? UInt8(ascii: "_") : byte
        }
        return plain + Array(".;1".utf8)
    }

    private static func wide(_ text: String) -> [UInt8] { text.utf8.flatMap { [0, $0] } }

    // MARK: Pieces

    private static func sectors(_ bytes: Int) -> Int { (bytes + sectorBytes - 1) / sectorBytes }

    private static func padded(_ bytes: [UInt8]) -> [UInt8] {
        bytes + [UInt8](repeating: 0, count: sectors(bytes.count) * sectorBytes - bytes.count)
    }

    private static func little(_ value: Int, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }

    /// Numbers are there in both orders.
    private static func both(_ value: Int, _ count: Int) -> [UInt8] {
        little(value, count) + little(value, count).reversed()
    }

    /// The first of January 1980, since an image is as old as what it is made of.
    private static let date: [UInt8] = [80, 1, 1, 0, 0, 0, 0]

    private static func record(_ name: [UInt8], sector: Int, size: Int, isFolder: Bool) -> [UInt8] {
        let length = (33 + name.count + 1) / 2 * 2
        var bytes: [UInt8] = [UInt8(length), 0]
        bytes += both(sector, 4) + both(size, 4) + date + [isFolder ? 2 : 0, 0, 0] + both(1, 2)
        bytes += [UInt8(name.count)] + name
        return bytes + [UInt8](repeating: 0, count: length - bytes.count)
    }

    private static func directory(_ files: [(file: File, sector: Int)], isJoliet: Bool) -> [UInt8] {
        let own = isJoliet ? 24 : 23
        var bytes = record([0], sector: own, size: sectorBytes, isFolder: true)
        bytes += record([1], sector: own, size: sectorBytes, isFolder: true)
        for (file, sector) in files {
            let name = isJoliet ? wide(file.name) : short(file.name)
            bytes += record(name, sector: sector, size: file.bytes.count, isFolder: false)
        }
        precondition(bytes.count <= sectorBytes, "a directory of \(bytes.count) bytes")
        return padded(bytes)
    }

    private static func pathTable(root: Int, isLittle: Bool) -> [UInt8] {
        let (sector, parent) = (little(root, 4), little(1, 2))
        return [1, 0] + (isLittle ? sector + parent : sector.reversed() + parent.reversed()) + [0, 0]
    }

    private static func descriptor(_ label: String, sectors: Int, isJoliet: Bool) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: sectorBytes)
        func put(_ at: Int, _ value: [UInt8]) { bytes.replaceSubrange(at..<(at + value.count), with: value) }
        func text(_ at: Int, _ count: Int, _ value: String) {
            let blank: [UInt8] = isJoliet ? [0, 0x20] : [0x20]
            var filled = isJoliet ? wide(value) : Array(value.utf8)
            while filled.count + blank.count <= count { filled += blank }
            filled += [UInt8](repeating: 0, count: count - filled.count)
            put(at, filled)
        }
        put(0, [isJoliet ? 2 : 1] + Array("CD001".utf8) + [1])
        text(8, 32, "")
        text(40, 32, label)
        put(80, both(sectors, 4))
        if isJoliet { put(88, Array("%/E".utf8)) }
        put(120, both(1, 2) + both(1, 2) + both(sectorBytes, 2) + both(10, 4))
        let tables = isJoliet ? 21 : 19
        put(140, little(tables, 4))
        put(148, little(tables + 1, 4).reversed())
        put(156, record([0], sector: isJoliet ? 24 : 23, size: sectorBytes, isFolder: true))
        for (at, count) in [(190, 128), (318, 128), (446, 128), (574, 128), (702, 37), (739, 37), (776, 37)] {
            text(at, count, "")
        }
        for at in [813, 830, 847, 864] { put(at, Array("0000000000000000".utf8) + [0]) }
        put(881, [1])
        return bytes
    }
}
