using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;

namespace Tuntrail
{
    /// <summary>How a tunnel's adapter is made.</summary>
    public sealed class WintunOptions
    {
        /// <summary>Says where Wintun is, and what its adapter is called.</summary>
        /// <param name="library">Full path of the signed wintun.dll of the process's architecture, in a folder that only
        /// administrators can write to.</param>
        /// <param name="name">Name of the adapter, as the system's list of adapters shows it.</param>
        public WintunOptions(string library, string name)
        {
            Library = library;
            Name = name;
        }

        /// <summary>Full path of wintun.dll.</summary>
        public string Library { get; }

        /// <summary>Name of the adapter.</summary>
        public string Name { get; }

        /// <summary>GUID of the adapter: choose one for the app, so that Windows takes it for the same network each time.</summary>
        public Guid? AdapterId { get; set; }

        /// <summary>Finds peers that have names; Windows does by default, which works before the tunnel has taken all traffic.</summary>
        public IHostResolver Resolver { get; set; }

        /// <summary>Load the library without looking at its signature and at who can write it: for a development build only.</summary>
        public bool SkipLibraryCheck { get; set; }
    }

    /// <summary>
    /// A running tunnel with its Wintun adapter. Administrators and services only. It tells the client of changes of the network, sleep and
    /// power by itself. Disposing of it stops the tunnel and takes back what was set; any thread may do that, repeatedly.
    /// </summary>
    public sealed class WintunTunnel : IDisposable
    {
        private readonly Client client;
        private AdapterSettings settings;
        private NetworkMonitor network;
        private PowerMonitor power;
        // 0 until there is an adapter. The tunnel's thread reads it, to know which interface is no way out.
        private long luid;
        private int disposed;

        private WintunTunnel(Client client)
        {
            this.client = client;
        }

        /// <summary>How the tunnel was started.</summary>
        public TunnelInfo Info { get; private set; }

        /// <summary>What Windows was told of it.</summary>
        public TunnelPlan Plan { get; private set; }

        /// <summary>What of the plan Windows can't do here and the tunnel can do without, in words; mostly empty.</summary>
        public IReadOnlyList<string> Warnings { get; private set; }

        /// <summary>Something that Windows told of could not be passed on. On a thread of the pool.</summary>
        public event EventHandler<TuntrailFailedEventArgs> Failed;

        /// <summary>
        /// Makes the adapter, starts the tunnel, and gives the adapter its addresses, name servers and routes. Blocks, the first time for
        /// seconds, while Windows installs the driver. If a step fails, nothing is left behind.
        /// </summary>
        /// <exception cref="TuntrailException">The tunnel or the adapter can't be made.</exception>
        /// <exception cref="FormatException">The configuration has an address that is none.</exception>
        /// <exception cref="System.Security.SecurityException">wintun.dll is not WireGuard's, or others than administrators can write it.</exception>
        /// <exception cref="System.ComponentModel.Win32Exception">Windows refuses an address, a route or a name server.</exception>
        public static WintunTunnel Start(Client client, TunnelConfig config, WintunOptions options)
        {
            if (client == null)
            {
                throw new ArgumentNullException(nameof(client));
            }
            if (options == null)
            {
                throw new ArgumentNullException(nameof(options));
            }
            WintunTunnel tunnel = new WintunTunnel(client) { Plan = TunnelPlan.Of(config) };
            if (!options.SkipLibraryCheck)
            {
                WintunLibrary.Check(options.Library);
            }
            OutsideSockets sockets = new OutsideSockets(tunnel.AdapterLuid);
            string id = options.AdapterId.HasValue ? options.AdapterId.Value.ToString("B") : null;
            tunnel.Info = client.StartTunnel(
                config, new TunDevice.Wintun(options.Library, options.Name, id), sockets, options.Resolver);
            try
            {
                ulong adapter = tunnel.Info.AdapterLuid.Value;
                Interlocked.Exchange(ref tunnel.luid, unchecked((long)adapter));
                tunnel.settings = AdapterSettings.Apply(adapter, tunnel.Plan, new IpHelper());
                tunnel.Warnings = tunnel.settings.Warnings;
                // Also refreshes the tunnel if the network has changed while the adapter was made, and nobody was watching yet.
                tunnel.network = new NetworkMonitor(
                    client, new WindowsNetwork(tunnel.AdapterLuid), sockets.AreStale, tunnel.Report);
                tunnel.power = new PowerMonitor(client, tunnel.Report);
            }
            catch
            {
                tunnel.Dispose();
                throw;
            }
            return tunnel;
        }

        /// <summary><see cref="Start"/> on a thread of the pool.</summary>
        public static Task<WintunTunnel> StartAsync(Client client, TunnelConfig config, WintunOptions options)
        {
            return Task.Run(() => Start(client, config, options));
        }

        /// <summary>Stops the tunnel within a second. The client goes on, with its records.</summary>
        public void Dispose()
        {
            if (Interlocked.Exchange(ref disposed, 1) != 0)
            {
                return;
            }
            power?.Dispose();
            network?.Dispose();
            settings?.Dispose();
            try
            {
                client.StopTunnel();
            }
            catch (TuntrailException.Closed)
            {
                // The client was shut down, and the tunnel with it.
            }
            catch (ObjectDisposedException)
            {
            }
        }

        private ulong? AdapterLuid()
        {
            long value = Interlocked.Read(ref luid);
            return value == 0 ? (ulong?)null : unchecked((ulong)value);
        }

        private void Report(Exception error)
        {
            Failed?.Invoke(this, new TuntrailFailedEventArgs(error));
        }
    }
}
