package tuntrail.android

import com.sun.jna.Library
import com.sun.jna.Native
import com.sun.jna.NativeLong
import com.sun.jna.Structure
import java.nio.ByteBuffer
import org.junit.Assert.assertEquals

/** A TUN device's stand-in without root: a pair of sockets that keep packets apart. The tunnel owns [descriptor], the test the other. */
internal class TestTun : AutoCloseable {
    private val pair = IntArray(2).also { assertEquals(0, LIBC.socketpair(AF_UNIX, SOCK_DGRAM, 0, it)) }
    val descriptor = pair[0]

    /** Sends a packet into the tunnel, as the system would. */
    fun send(packet: ByteArray) = assertEquals(packet.size.toLong(), LIBC.write(pair[1], packet, NativeLong(packet.size.toLong())).toLong())

    /** Waits for the next packet out of the tunnel. */
    fun receive(): ByteArray {
        val poll = PollFd(pair[1])
        assertEquals("no packet came out of the tunnel", 1, LIBC.poll(poll, NativeLong(1), LIMIT.toInt()))
        val packet = ByteArray(2000)
        return packet.copyOf(LIBC.read(pair[1], packet, NativeLong(packet.size.toLong())).toInt())
    }

    override fun close() {
        LIBC.close(pair[1])
    }

    @Suppress("FunctionName")
    private interface Libc : Library {
        fun socketpair(domain: Int, type: Int, protocol: Int, pair: IntArray): Int
        fun write(descriptor: Int, data: ByteArray, length: NativeLong): NativeLong
        fun read(descriptor: Int, data: ByteArray, length: NativeLong): NativeLong
        fun poll(descriptors: PollFd, count: NativeLong, millis: Int): Int
        fun close(descriptor: Int): Int
    }

    @Structure.FieldOrder("fd", "events", "revents")
    class PollFd(@JvmField var fd: Int) : Structure() {
        @JvmField
        var events: Short = POLLIN

        @JvmField
        var revents: Short = 0
    }

    private companion object {
        val LIBC: Libc = Native.load("c", Libc::class.java)

        // Of Linux, where Android's tests run, too.
        const val AF_UNIX = 1
        const val SOCK_DGRAM = 2
        const val POLLIN: Short = 1
    }
}

/** An IPv4 packet with UDP, as short as can be: without a UDP checksum, which is optional there. */
internal fun udpPacket(source: String, sourcePort: Int, destination: String, destinationPort: Int): ByteArray {
    fun address(text: String) = text.split('.').map { it.toInt().toByte() }.toByteArray()
    val packet = ByteBuffer.allocate(28)
    packet.put(0x45).put(0).putShort(28).putInt(0).put(64).put(17).putShort(0)
    packet.put(address(source)).put(address(destination))
    packet.putShort(sourcePort.toShort()).putShort(destinationPort.toShort()).putShort(8).putShort(0)
    var sum = (0 until 20 step 2).sumOf { packet.getShort(it).toInt() and 0xffff }
    while (sum > 0xffff) sum = (sum and 0xffff) + (sum shr 16)
    packet.putShort(10, sum.inv().toShort())
    return packet.array()
}
