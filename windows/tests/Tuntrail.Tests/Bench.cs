using System;
using System.Collections.Generic;
using System.IO;
using System.Runtime.InteropServices;

namespace Tuntrail.Tests
{
    /// <summary>
    /// Two clients in one process with a tunnel between them over loopback, and in place of TUN devices socket pairs, whose
    /// other ends are the test's. Linux.
    /// </summary>
    internal sealed class Bench : IDisposable
    {
        /// <summary>For what takes milliseconds; only a hanging test comes near it.</summary>
        internal static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

        private readonly string folder = Path.Combine(Path.GetTempPath(), "tuntrail-" + Guid.NewGuid().ToString("N"));
        private readonly List<PacketEnd> ends = new List<PacketEnd>();

        internal Bench(string baseUrl)
        {
            Left = new TuntrailClient(Config("left", baseUrl));
            Right = new TuntrailClient(Config("right", baseUrl));
        }

        internal TuntrailClient Left { get; }

        internal TuntrailClient Right { get; }

        internal PacketEnd LeftEnd { get; private set; }

        internal PacketEnd RightEnd { get; private set; }

        internal string RightKey { get; private set; }

        /// <summary>Starts the tunnel; 10.9.0.1 is left, 10.9.0.2 right.</summary>
        internal void Connect()
        {
            string leftSecret = TuntrailFfiFunctions.GeneratePrivateKey();
            string rightSecret = TuntrailFfiFunctions.GeneratePrivateKey();
            RightKey = TuntrailFfiFunctions.PublicKeyOf(rightSecret);
            Peer left = new Peer(TuntrailFfiFunctions.PublicKeyOf(leftSecret), new[] { "10.9.0.1/32" });
            RightEnd = NewEnd();
            TunnelInfo info = Right.Client.StartTunnel(
                new TunnelConfig(rightSecret, new[] { "10.9.0.2/32" }, new[] { left }),
                new TunDevice.Tun(RightEnd.TakeTheirs()), null, null);
            string port = info.LocalV4.Substring(info.LocalV4.LastIndexOf(':') + 1);
            Peer right = new Peer(RightKey, new[] { "10.9.0.2/32" }) { Endpoint = "127.0.0.1:" + port };
            LeftEnd = NewEnd();
            Left.Client.StartTunnel(
                new TunnelConfig(leftSecret, new[] { "10.9.0.1/32" }, new[] { right }),
                new TunDevice.Tun(LeftEnd.TakeTheirs()), null, null);
        }

        /// <summary>Sends a datagram from left to right, waits for it, and writes what was recorded of it.</summary>
        internal void SendOne()
        {
            byte[] sent = Datagram();
            LeftEnd.Send(sent);
            byte[] received = RightEnd.Receive();
            Xunit.Assert.Equal(BitConverter.ToString(sent), BitConverter.ToString(received));
            Left.Client.Flush();
        }

        public void Dispose()
        {
            Left.Dispose();
            Right.Dispose();
            foreach (PacketEnd end in ends)
            {
                end.Dispose();
            }
            Directory.Delete(folder, true);
        }

        private ClientConfig Config(string name, string baseUrl)
        {
            return new ClientConfig(Path.Combine(folder, name), baseUrl, Consent.Granted);
        }

        private PacketEnd NewEnd()
        {
            PacketEnd end = new PacketEnd();
            ends.Add(end);
            return end;
        }

        /// <summary>IPv4, UDP, 10.9.0.1:1000 to 10.9.0.2:2000, 4 bytes.</summary>
        private static byte[] Datagram()
        {
            byte[] packet =
            {
                0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2,
                0x03, 0xe8, 0x07, 0xd0, 0, 12, 0, 0, 1, 2, 3, 4,
            };
            uint sum = 0;
            for (int i = 0; i < 20; i += 2)
            {
                sum += (uint)(packet[i] << 8 | packet[i + 1]);
            }
            sum = 0xffff ^ ((sum & 0xffff) + (sum >> 16));
            packet[10] = (byte)(sum >> 8);
            packet[11] = (byte)(sum & 0xff);
            return packet;
        }
    }

    /// <summary>The test's end of what a tunnel takes for its TUN device.</summary>
    internal sealed class PacketEnd : IDisposable
    {
        private readonly int[] descriptors = new int[2];

        internal PacketEnd()
        {
            const int unix = 1;
            const int seqpacket = 5;
            Check(socketpair(unix, seqpacket, 0, descriptors));
            const int solSocket = 1;
            const int receiveTimeout = 20;
            long[] limit = { (long)Bench.Limit.TotalSeconds, 0 };
            Check(setsockopt(descriptors[0], solSocket, receiveTimeout, limit, 16));
        }

        /// <summary>The tunnel's end, which is the tunnel's from now on.</summary>
        internal int TakeTheirs()
        {
            return descriptors[1];
        }

        internal void Send(byte[] packet)
        {
            Check((int)send(descriptors[0], packet, (UIntPtr)packet.Length, 0));
        }

        internal byte[] Receive()
        {
            byte[] packet = new byte[2048];
            int length = (int)recv(descriptors[0], packet, (UIntPtr)packet.Length, 0);
            Check(length);
            Array.Resize(ref packet, length);
            return packet;
        }

        public void Dispose()
        {
            if (descriptors[0] >= 0)
            {
                close(descriptors[0]);
                descriptors[0] = -1;
            }
        }

        private static void Check(int result)
        {
            if (result < 0)
            {
                throw new IOException("errno " + Marshal.GetLastWin32Error());
            }
        }

        [DllImport("libc", SetLastError = true)]
        private static extern int socketpair(int domain, int type, int protocol, int[] descriptors);

        [DllImport("libc", SetLastError = true)]
        private static extern int setsockopt(int socket, int level, int option, long[] value, uint length);

        [DllImport("libc", SetLastError = true)]
        private static extern IntPtr send(int socket, byte[] data, UIntPtr length, int flags);

        [DllImport("libc", SetLastError = true)]
        private static extern IntPtr recv(int socket, byte[] data, UIntPtr length, int flags);

        [DllImport("libc", SetLastError = true)]
        private static extern int close(int descriptor);
    }
}
