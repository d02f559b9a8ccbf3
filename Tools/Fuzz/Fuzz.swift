// Two faces. With -DFUZZ this is libFuzzer's entry point, which `Tools/check fuzz` builds and runs. Without it, it is a
// program that gives every file named on its command line to the readers, so that the corpus is replayed everywhere.

#if FUZZ
@c(LLVMFuzzerTestOneInput)
public func fuzzOne(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    // The buffer belongs to the fuzzer and is valid for this call.
    Readers.read(Array(UnsafeBufferPointer(start: bytes, count: count)))
    return 0
}
#else
import Glibc

@main
enum Replay {
    static func main() {
        let paths = CommandLine.arguments.dropFirst()
        for path in paths {
            guard let file = fopen(path, "rb") else {
                print("fuzz: \(path) cannot be opened.")
                exit(1)
            }
            var bytes: [UInt8] = []
            while case let byte = fgetc(file), byte != EOF { bytes.append(UInt8(truncatingIfNeeded: byte)) }
            fclose(file)
            Readers.read(bytes)
        }
        print("\(paths.count) inputs were read without a crash.")
    }
}
#endif
