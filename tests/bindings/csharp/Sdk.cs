// The SDK from begin to end in C#: the steps of SDK_STEPS in tests/bindings/src/lib.rs. An app with a VPN does what is done
// here, in about this order. Prints "ok NAME" for each step that holds; any other ends the program. The one argument is an
// empty directory.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net.Sockets;
using System.Text;
using TestPeer;
using Tuntrail;

internal static partial class Program
{
    private static void Main(string[] arguments)
    {
        App app = new App(arguments[0]);
        Run("configuration", Configuration, app);
        Run("tunnel", Tunnel, app);
        Run("upload", Upload, app);
        Run("exit flows", ExitFlowsStep, app);
        Run("sessions", Sessions, app);
        Run("socket statistics", SocketStatistics, app);
        Run("network change", NetworkChange, app);
        Run("cancelled upload", CancelledUpload, app);
        Run("held up upload", HeldUpUpload, app);
        Run("debug upload", DebugUploadStep, app);
        Run("consent", ConsentStep, app);
        Run("export and clear", ExportAndClear, app);
        Run("log", Log, app);
        Run("device end", DeviceEnd, app);
        Run("failing callbacks", FailingCallbacks, app);
        Run("closing", Closing, app);
        Run("host transport", HostTransport, app);
        Run("claim", Claim, app);
        Run("thousand clients", ThousandClients, app);
        app.Server.Stop();
    }

    private static void Run(string name, Action<App> step, App app)
    {
        step(app);
        Console.WriteLine("ok " + name);
    }

    private static void Configuration(App app)
    {
        SessionSettings sessions = new SessionSettings { Rules = new[] { App.Rule(1, "100.64.0.999", 1) } };
        ClientConfig loud = app.Config("refused");
        loud.LogFilter = "loud";
        ClientConfig quick = app.Config("refused");
        quick.Flows = new FlowSettings { Window = TimeSpan.FromMilliseconds(10) };
        ClientConfig named = app.Config("refused");
        named.PrivateId = "secret";
        ClientConfig ruled = app.Config("refused");
        ruled.Sessions = sessions;
        foreach (ClientConfig wrong in new[] { app.Config("refused", Consent.Granted, "ftp://nowhere"), app.Config(""), loud, quick, named, ruled })
        {
            TuntrailException.Config error = Check.Throws<TuntrailException.Config>(() => new Client(wrong));
            Check.Equal(error.Reason, error.Message);
            Check.True(error.Reason.Length > 0 && !error.Reason.Contains("secret"), error.Reason);
        }
        string file = app.Network.TunnelConfig().Replace("PrivateKey = ", "PrivateKey = x");
        string reason = Check.Throws<TuntrailException.Config>(() => TuntrailFfiFunctions.ParseTunnelConfig(file)).Reason;
        Check.True(reason.Contains("line 2") && !reason.Contains(app.TunnelConfig().PrivateKey), reason);
        // What an app prints by accident has no secrets in it.
        string printed = app.TunnelConfig() + " " + named;
        Check.True(printed.Contains("hidden") && !printed.Contains(app.TunnelConfig().PrivateKey), printed);
        Check.True(!printed.Contains("secret"), printed);
        Check.Equal(44, TuntrailFfiFunctions.PublicKeyOf(TuntrailFfiFunctions.GeneratePrivateKey()).Length);
        using (Client undecided = new Client(app.Config("refused", Consent.Unknown)))
        {
            Check.Equal(null, undecided.LogId());
            Check.Throws<TuntrailException.NoConsent>(() => undecided.Upload("scenario"));
        }
        Check.Equal(0, app.Files("refused").Length);
    }

    private static void Tunnel(App app)
    {
        ClientConfig config = app.Config("records");
        config.Flows = new FlowSettings { Events = true };
        config.Sessions = new SessionSettings { Rules = new[] { App.Rule(7, "100.64.0.2/32", 443) } };
        config.LogFilter = "debug";
        config.RemoteCommands = RemoteCommands.Allowed;
        app.Client = new Client(config);
        app.Client.SetListener(app.Recorder);
        app.Client.SetNetwork(App.Map, App.Routes);
        TunnelConfig named = app.TunnelConfig();
        Peer peer = named.Peers[0];
        peer.Endpoint = peer.Endpoint.Replace("127.0.0.1", "vpn.example.com");
        TunDevice device = new TunDevice.Tun(app.Network.Attach());
        TunnelInfo info = app.Client.StartTunnel(named, device, app.Protector, new Resolver());
        Check.True(info.LocalV4 != null && info.AdapterLuid == null);
        KeyValuePair<ulong, string> call = app.Protector.Next();
        Check.True(call.Key > 2, call.Key);
        Check.Equal(TestpeerFunctions.NativeThreadName(), call.Value);

        CarriedFlow flow = app.Network.Exchange(Place.Node, 20000, 60000);
        app.Recorder.WaitFor<Event.PeerConnected>(connected => connected.PublicKey == peer.PublicKey);
        TunnelStats stats = app.Client.Stats().Tunnel;
        Counts carried = new Counts
        {
            TxPackets = stats.TxPackets, TxBytes = stats.TxBytes, RxPackets = stats.RxPackets, RxBytes = stats.RxBytes,
        };
        Check.Equal(Counts.Of(flow), carried);
        Check.Equal(peer.PublicKey, stats.Peers[0].PublicKey);
        Check.Throws<TuntrailException.Tunnel>(() => app.StartTunnel(app.Client));
        // That try has replaced the programs of the device.
        app.Client.StopTunnel();
        app.StartTunnel(app.Client, app.Protector);
        app.Protector.Forget();
    }

    private static void ExitFlowsStep(App app)
    {
        // So far there were only sums.
        foreach (RecordedFlow row in app.ExitRows())
        {
            Check.True(row.Protocol == 0 && row.Source == "100.64.0.1:0" && row.Destination == null, row.Destination);
        }
        Check.True(!app.Server.Entries(App.Windows).Any(entry => entry.Contains("203.0.113.7")));
        app.Client.SetExitFlows(ExitFlows.Full);
        app.Client.Flush();
        CarriedFlow flow = app.Network.Exchange(Place.Internet, 1000, 2000);
        app.Upload();
        Check.Equal("203.0.113.7:443", flow.Destination);
        Check.Equal(Counts.Of(flow), app.Recorded(flow));
        app.Client.SetExitFlows(ExitFlows.Off);
        int before = app.ExitRows().Length;
        flow = app.Network.Exchange(Place.Internet, 1000, 2000);
        app.Upload();
        Check.Equal(before, app.ExitRows().Length);
        Traffic withheld = app.Client.Stats().Flows.Withheld;
        Check.Equal(flow.TxBytes, withheld.TxBytes);
        Check.Equal(flow.RxBytes, withheld.RxBytes);
        app.Client.SetExitFlows(ExitFlows.Aggregated);
    }

    private static void Sessions(App app)
    {
        // A session is recorded when it is over, and with the tunnel all are.
        app.Client.StopTunnel();
        app.Upload();
        Check.True(app.Server.Numbers(App.Sessions, "resourceId").Distinct().SequenceEqual(new ulong[] { 7 }));
        int before = app.Server.Entries(App.Sessions).Count;
        app.StartTunnel(app.Client, app.Protector);
        app.Client.SetSessionRules(new[] { App.Rule(8, "10.20.0.0/16", 22) });
        CarriedFlow flow = app.Network.Exchange(Place.Subnet, 16, 5000);
        app.Network.Exchange(Place.Node, 16, 5000);
        app.Client.StopTunnel();
        app.Upload();
        string[] found = app.Server.Entries(App.Sessions).Skip(before).ToArray();
        Check.Equal(1, found.Length);
        Check.True(found[0].Contains("\"resourceId\":8") && found[0].Contains("\"destAddr\":\"" + flow.Destination + "\""), found[0]);
        // Of sessions the content counts.
        Check.True(found[0].Contains("\"bytesTx\":16,") && found[0].Contains("\"bytesRx\":5000"), found[0]);
        app.StartTunnel(app.Client, app.Protector);
        app.Protector.Forget();
    }

    private static void SocketStatistics(App app)
    {
        Check.Throws<TuntrailException.Config>(() => app.Client.SocketCounter(3));
        app.Client.EnableSocketStats(TimeSpan.FromHours(1));
        using (SocketCounter counter = app.Client.SocketCounter(64))
        {
            counter.Add(1000, 2000);
            counter.Add(1, 2);
            byte[] request = Encoding.ASCII.GetBytes("GET /collections HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            ulong received = 0;
            Uri address = new Uri(app.Server.Url());
            using (Socket own = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp))
            {
                own.Connect(address.Host, address.Port);
                using (RegisteredSocket registered = app.Client.RegisterSocket(own.Handle.ToInt32(), 65))
                {
                    own.Send(request);
                    byte[] buffer = new byte[65536];
                    for (int part = own.Receive(buffer); part > 0; part = own.Receive(buffer))
                    {
                        received += (ulong)part;
                    }
                    registered.Unregister();
                }
            }
            Check.Throws<TuntrailException.Config>(() => app.Client.RegisterSocket(-1, 65));
            using (Upload upload = app.Client.Upload("scenario", new[] { Tuntrail.Stream.Sockets }))
            {
                Check.True(upload.Join().Complete);
            }
            Moved(app, "64", 1001, 2002);
            Moved(app, "65", (ulong)request.Length, received);
            app.Client.DisableSocketStats();
            counter.Add(5, 5);
            app.Upload();
            Moved(app, "64", 1001, 2002);
        }
    }

    // What the server knows of a label: pairs of bytes sent and received.
    private static void Moved(App app, string label, ulong sent, ulong received)
    {
        ulong[] numbers = app.Server.Numbers(App.Sockets, label).ToArray();
        Check.Equal(sent, numbers.Where((_, place) => place % 2 == 0).Aggregate(0UL, (sum, number) => sum + number));
        Check.Equal(received, numbers.Where((_, place) => place % 2 == 1).Aggregate(0UL, (sum, number) => sum + number));
    }

    private static void NetworkChange(App app)
    {
        app.Client.SetPowerState(new PowerState { BatteryPercent = 50 });
        Check.Throws<TuntrailException.Config>(() => app.Client.SetPowerState(new PowerState { BatteryPercent = 101 }));
        app.Client.SetNetworkState(new NetworkState(true) { Id = 1, Interface = InterfaceKind.Wifi });
        Check.True(!app.Protector.WasCalled);
        app.Client.SetNetworkState(new NetworkState(true) { Id = 2, Interface = InterfaceKind.Cellular });
        Check.Equal("tuntrail-tunnel", app.Protector.Next().Value);
        app.Network.Exchange(Place.Node, 16, 100);
    }

    private static void ConsentStep(App app)
    {
        string name = app.Client.LogId();
        ulong uploads = app.Server.Uploads();
        CarriedFlow kept = app.Network.Exchange(Place.Node, 7000, 7000);
        app.Client.Flush();
        app.Client.SetConsent(Consent.Denied);
        // Only the denial itself is left.
        string[] files = app.Files("records");
        Check.True(files.Length > 0 && files.All(file => Path.GetFileName(file).StartsWith("CONSENT", StringComparison.Ordinal)), files.Length);
        Check.Throws<TuntrailException.NoConsent>(() => app.Client.Upload("scenario"));
        Check.Equal(null, app.Client.LogId());
        CarriedFlow denied = app.Network.Exchange(Place.Node, 8000, 8000);
        app.Client.SetConsent(Consent.Granted);
        string another = app.Client.LogId();
        Check.True(another != null && another != name, another);
        CarriedFlow flow = app.Network.Exchange(Place.Node, 9000, 9000);
        Check.Equal(uploads, app.Server.Uploads());
        app.Upload();
        Check.Equal(new Counts(), app.Recorded(kept));
        Check.Equal(new Counts(), app.Recorded(denied));
        Check.Equal(Counts.Of(flow), app.Recorded(flow));
    }

    private static void ExportAndClear(App app)
    {
        CarriedFlow flow = app.Network.Exchange(Place.Node, 1000, 1000);
        ExportReport report = app.Client.Export(app.Path("export.tar.zst"));
        Check.Equal((ulong)new FileInfo(app.Path("export.tar.zst")).Length, report.Bytes);
        Check.True(report.Records > 0 && report.LogFiles > 0 && report.Unreadable == 0, report.Records);
        Check.Throws<TuntrailException.Storage>(() => app.Client.Export(app.Path("no/such/folder/export.tar.zst")));
        app.Client.Clear();
        using (Upload upload = app.Client.Upload("scenario"))
        {
            Check.True(upload.Join().Outcome is UploadOutcome.NothingToSend);
        }
        Check.Equal(new Counts(), app.Recorded(flow));
    }

    private static void Log(App app)
    {
        ulong before = app.Client.Stats().Log.Lines;
        app.Client.SetNetwork(App.Map, new Routes());
        Check.True(app.Client.Stats().Log.Lines > before);
        Check.Throws<TuntrailException.Config>(() => app.Client.SetLogFilter("loud"));
        app.Client.SetLogFilter("off");
        before = app.Client.Stats().Log.Lines;
        app.Client.SetNetwork(App.Map, new Routes());
        Check.Equal(before, app.Client.Stats().Log.Lines);
    }

    private static void DeviceEnd(App app)
    {
        app.Network.Unplug();
        app.Recorder.WaitFor<Event.TunnelDeviceEnded>(_ => true);
        Check.True(app.Client.Stats().Tunnel.DeviceEnded);
        app.Client.StopTunnel();
    }

    private static void FailingCallbacks(App app)
    {
        Exception[] errors = { new CallbackException.Failed("on purpose"), new InvalidOperationException("on purpose") };
        ulong failed = app.Client.Stats().Events.Failed;
        List<Throwing> listeners = new List<Throwing>();
        foreach (Exception error in errors)
        {
            Throwing listener = new Throwing(error);
            app.Client.SetListener(listener);
            app.Upload();
            Check.Next(listener.Calls);
            listeners.Add(listener);
        }
        app.Client.SetListener(app.Recorder);
        app.Upload();
        app.Recorder.WaitFor<Event.UploadEnded>(_ => true);
        ulong calls = (ulong)listeners.Sum(listener => 1 + listener.Calls.Count);
        Check.Equal(failed + calls, app.Client.Stats().Events.Failed);

        ulong before = TestpeerFunctions.OpenDescriptors();
        foreach (Throwing protector in new[] { new Throwing(), new Throwing(errors[0]), new Throwing(errors[1]) })
        {
            Check.Throws<TuntrailException.Tunnel>(() => app.StartTunnel(app.Client, protector));
        }
        TunnelConfig named = app.TunnelConfig();
        named.Peers[0].Endpoint = "vpn.example.com:51820";
        foreach (Exception error in errors)
        {
            TunDevice device = new TunDevice.Tun(app.Network.Attach());
            Check.Throws<TuntrailException.Tunnel>(() => app.Client.StartTunnel(named, device, null, new Throwing(error)));
        }
        app.Network.Unplug();
        // Fewer, if an idle connection has ended meanwhile.
        Check.True(TestpeerFunctions.OpenDescriptors() <= before, before);
    }

    private static void Closing(App app)
    {
        Client client = app.Client;
        client.Shutdown();
        client.Shutdown();
        TunDevice device = new TunDevice.Tun(app.Network.Attach());
        Action[] calls =
        {
            () => client.SetConsent(Consent.Denied), () => client.SetListener(null), client.StopTunnel, client.RefreshTunnel,
            () => client.StartTunnel(app.TunnelConfig(), device, null, null), () => client.SetNetwork(App.Map, App.Routes),
            () => client.SetExitFlows(ExitFlows.Off), () => client.SetSessionRules(new ResourceRule[0]),
            () => client.SetNetworkState(new NetworkState(true)), () => client.SetPowerState(new PowerState()),
            () => client.Upload("scenario"), client.PauseUploads, client.ResumeUploads, () => client.NextUploadTask(),
            () => client.RequestDebugUpload(new DebugRequest()), () => client.HandleCommand("{}"),
            () => client.Claim(Role.App), client.DisableSocketStats, () => client.SocketCounter(64), client.Flush,
            () => client.Export(app.Path("late.tar.zst")), client.Clear, () => client.LogId(), () => client.Stats(),
            () => client.SetLogFilter("info"),
        };
        foreach (Action call in calls)
        {
            Check.Throws<TuntrailException.Closed>(call);
        }
        client.Dispose();
        client.Dispose();
        Check.Throws<ObjectDisposedException>(client.Flush);
    }

    private static void ThousandClients(App app)
    {
        for (int i = 0; i < 100; i++)
        {
            OneClient(app);
        }
        TestpeerFunctions.WaitForThreadsNamed("tuntrail-events", 0);
        GC.Collect();
        ulong memory = TestpeerFunctions.ResidentBytes();
        ulong descriptors = TestpeerFunctions.OpenDescriptors();
        ulong threads = TestpeerFunctions.ThreadsNamed("tuntrail");
        for (int i = 0; i < 1000; i++)
        {
            OneClient(app);
        }
        TestpeerFunctions.WaitForThreadsNamed("tuntrail", threads);
        GC.Collect();
        long growth = (long)TestpeerFunctions.ResidentBytes() - (long)memory;
        Console.Error.WriteLine("growth " + (growth >> 10) + " KiB");
        // 8 KiB for each client: half the write buffer of one of its streams.
        Check.True(growth < 8 << 20, growth);
        Check.True(TestpeerFunctions.OpenDescriptors() <= descriptors, descriptors);
    }

    private static void OneClient(App app)
    {
        using (Client client = new Client(app.Config("cycle")))
        {
            client.SetListener(new Recorder());
            app.StartTunnel(client, app.Protector);
            client.Shutdown();
        }
    }
}
