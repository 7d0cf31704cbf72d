using System;
using System.Diagnostics;
using System.IO;
using System.ServiceProcess;
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
            pipe?.Dispose();
            try
            {
                starting?.Wait();
            }
            catch (AggregateException)
            {
                // StartTunnel has told.
            }
            tunnel?.Dispose();
            client?.Dispose();
        }

        protected override void OnShutdown()
        {
            OnStop();
        }

        private void StartTunnel(string data)
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
                tunnel = WintunTunnel.Start(
                    client.Client, config, new WintunOptions(library, "Example VPN") { AdapterId = Adapter });
                tunnel.Failed += (sender, failed) => Tell(failed.Error, EventLogEntryType.Warning);
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
            EventLog.WriteEntry(error.GetType().Name + ": " + error.Message, kind);
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
