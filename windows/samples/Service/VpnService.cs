using System;
using System.ComponentModel;
using System.Diagnostics;
using System.IO;
using System.ServiceProcess;
using System.Threading;
using System.Threading.Tasks;
using Tuntrail;

namespace ExampleVpn
{
    /// <summary>
    /// Owns the client and the tunnel. Starts the tunnel of tunnel.conf when the service starts, and stops it with the service. Windows calls
    /// the methods one at a time; what may take long is done in the background, as Windows gives them 30 seconds.
    /// </summary>
    internal sealed class VpnService : ServiceBase
    {
        internal const string Name = "ExampleVpn";
        // This app's own; with it Windows knows the network again.
        private static readonly Guid Adapter = new Guid("6f1f0a3e-5a0b-4c1e-9d53-2b8f6a7c9e11");

        /// <summary>Windows is told that we still work after each of them; of its 30 seconds, nothing is left at the end.</summary>
        private static readonly TimeSpan Slice = TimeSpan.FromSeconds(5);

        private readonly CancellationTokenSource stopping = new CancellationTokenSource();
        private TuntrailClient client;
        private WintunTunnel tunnel;
        private ServicePipe pipe;
        private Task starting;

        internal VpnService()
        {
            ServiceName = Name;
            CanShutdown = true;
        }

        protected override void OnStart(string[] arguments)
        {
            // Keys, the log's private ID and records: nobody but the system and administrators reads or writes here.
            string data = Path.Combine(
                Environment.GetFolderPath(Environment.SpecialFolder.CommonApplicationData), "Example VPN");
            ProtectedDirectory.Create(data);
            Choices choices = new Choices(Path.Combine(data, "choices.txt"));
            client = new TuntrailClient(
                new ClientConfig(Path.Combine(data, "records"), "https://logs.example.com", choices.Consent)
                {
                    Role = Role.Service,
                    Flows = new FlowSettings { ExitFlows = choices.ExitFlows },
                });
            client.TunnelDeviceEnded += (sender, nothing) => Fail();
            client.TunnelFailed += (sender, nothing) => Fail();
            pipe = new ServicePipe(new Commands(client, choices), error => Tell(error, EventLogEntryType.Warning));
            starting = Task.Run(() => StartTunnel(data));
        }

        protected override void OnStop()
        {
            Close(true);
        }

        protected override void OnShutdown()
        {
            try
            {
                // First: Windows may end us any moment.
                client?.Client.Flush();
            }
            catch (TuntrailException error)
            {
                Tell(error, EventLogEntryType.Warning);
            }
            Close(false);
        }

        /// <summary>Ends everything, or leaves it to the end of the process if Windows gives no time for a start that is under way.</summary>
        private void Close(bool mayTakeTime)
        {
            pipe?.Dispose();
            stopping.Cancel();
            while (starting != null && !HasEnded(starting))
            {
                if (!mayTakeTime)
                {
                    return;
                }
                RequestAdditionalTime((int)(2 * Slice.TotalMilliseconds));
            }
            tunnel?.Dispose();
            client?.Dispose();
        }

        private static bool HasEnded(Task task)
        {
            try
            {
                return task.Wait(Slice);
            }
            catch (AggregateException)
            {
                // StartTunnel has told, or was stopped.
                return true;
            }
        }

        private async Task StartTunnel(string data)
        {
            try
            {
                TunnelConfig config = TuntrailFfiFunctions.ParseTunnelConfig(
                    File.ReadAllText(Path.Combine(data, "tunnel.conf")));
                // Without itself in the map, the client takes all traffic for exit traffic, and records only its sums.
                Node self = new Node(1, TuntrailFfiFunctions.PublicKeyOf(config.PrivateKey))
                {
                    Name = Environment.MachineName,
                    Addresses = Own(config),
                };
                client.Client.SetNetwork(
                    new NetworkMap { SelfNode = self },
                    new Routes { Local = config.Addresses, Remote = Networks(config) });
                // Beside the program, that is in Program Files.
                string library = Path.Combine(AppDomain.CurrentDomain.BaseDirectory, "wintun.dll");
                WintunOptions options = new WintunOptions(library, "Example VPN") { AdapterId = Adapter };
                // A machine may boot without a network, and then knows no peer by its name.
                tunnel = await Persistence.Start(
                    () => WintunTunnel.Start(client.Client, config, options),
                    error => error is TuntrailException.Tunnel,
                    error => Tell(error, EventLogEntryType.Warning),
                    Persistence.NetworkChange,
                    stopping.Token).ConfigureAwait(false);
                tunnel.Failed += (sender, failed) => Tell(failed.Error, EventLogEntryType.Warning);
                foreach (string warning in tunnel.Warnings)
                {
                    Tell(warning, EventLogEntryType.Warning);
                }
            }
            catch (OperationCanceledException)
            {
                // The service stops.
            }
            catch (Exception error)
            {
                Tell(error, EventLogEntryType.Error);
                Fail();
                throw;
            }
        }

        /// <summary>Ends the service so that Windows starts it again, as `sc.exe failure` says; it doesn't with one that has just stopped.</summary>
        private void Fail()
        {
            ExitCode = 1;
            // Stopping waits for the thread that this is called on.
            Task.Run(() => Stop());
        }

        // No key is ever in the text of an error.
        private void Tell(Exception error, EventLogEntryType kind)
        {
            Tell(error.GetType().Name + ": " + error.Message, kind);
        }

        private void Tell(string text, EventLogEntryType kind)
        {
            try
            {
                EventLog.WriteEntry(text, kind);
            }
            catch (Exception error) when (error is Win32Exception || error is InvalidOperationException)
            {
                // The log is full, or its service doesn't run: no reason to end.
            }
        }

        /// <summary>Our addresses alone: what the configuration has carries the length of the network.</summary>
        private static string[] Own(TunnelConfig config)
        {
            System.Collections.Generic.List<string> addresses = new System.Collections.Generic.List<string>();
            foreach (string address in config.Addresses)
            {
                addresses.Add(address.Split('/')[0]);
            }
            return addresses.ToArray();
        }

        private static string[] Networks(TunnelConfig config)
        {
            System.Collections.Generic.List<string> networks = new System.Collections.Generic.List<string>();
            foreach (Peer peer in config.Peers)
            {
                networks.AddRange(peer.AllowedIps);
            }
            return networks.ToArray();
        }
    }
}
