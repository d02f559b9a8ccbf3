/// Makes frames smaller. One per network, used on the loop's thread only.
package protocol FrameCodec: AnyObject {
    /// Appends the compressed bytes; false, and nothing appended, when they would not be fewer.
    func compress(_ bytes: UnsafeRawBufferPointer, into output: inout [UInt8]) -> Bool
    /// The `count` bytes that were compressed; nil when these are not what `compress` wrote.
    func expand(_ bytes: UnsafeRawBufferPointer, count: Int) -> [UInt8]?
}
