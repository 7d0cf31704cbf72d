// What the steps share: the app, its listeners and callbacks, and checks.
using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using TestPeer;
using Tuntrail;

internal static class Check
{
    internal static void Equal<T>(T expected, T actual)
    {
        if (!EqualityComparer<T>.Default.Equals(expected, actual))
        {
            throw new Exception("expected " + expected + ", got " + actual);
        }
    }

    internal static void True(bool holds, object shown = null)
    {
        if (!holds)
        {
            throw new Exception("does not hold: " + shown);
        }
    }

    internal static E Throws<E>(Action action) where E : Exception
    {
        try
        {
            action();
        }
        catch (E error)
        {
            return error;
        }
        throw new Exception("expected " + typeof(E).FullName);
    }

    // Takes what comes next, or fails.
    internal static T Next<T>(BlockingCollection<T> queue)
    {
        // Only a failing test waits so long.
        True(queue.TryTake(out T item, TimeSpan.FromSeconds(30)), "nothing came");
        return item;
    }
}

// Packets and bytes in both directions.
internal struct Counts
{
    internal ulong TxPackets;
    internal ulong TxBytes;
    internal ulong RxPackets;
    internal ulong RxBytes;

    internal static Counts Of(CarriedFlow flow)
    {
        return new Counts
        {
            TxPackets = flow.TxPackets, TxBytes = flow.TxBytes, RxPackets = flow.RxPackets, RxBytes = flow.RxBytes,
        };
    }

    internal static Counts Sum(IEnumerable<RecordedFlow> rows)
    {
        Counts sum = new Counts();
        foreach (RecordedFlow row in rows)
        {
            sum.TxPackets += row.TxPackets;
            sum.TxBytes += row.TxBytes;
            sum.RxPackets += row.RxPackets;
            sum.RxBytes += row.RxBytes;
        }
        return sum;
    }

    public override string ToString()
    {
        return TxPackets + "/" + TxBytes + " sent, " + RxPackets + "/" + RxBytes + " received";
    }
}

// Keeps what happened.
internal sealed class Recorder : IEventListener
{
    private readonly BlockingCollection<KeyValuePair<Event, string>> events = new BlockingCollection<KeyValuePair<Event, string>>();

    public void OnEvent(Event @event)
    {
        this.events.Add(new KeyValuePair<Event, string>(@event, TestpeerFunctions.NativeThreadName()));
    }

    internal E WaitFor<E>(Func<E, bool> wanted) where E : Event
    {
        while (true)
        {
            KeyValuePair<Event, string> next = Check.Next(this.events);
            Check.Equal("tuntrail-events", next.Value);
            if (next.Key is E found && wanted(found))
            {
                return found;
            }
        }
    }
}

// Stands for whatever exempts sockets from the VPN.
internal sealed class Protector : ISocketProtector
{
    private BlockingCollection<KeyValuePair<ulong, string>> calls = new BlockingCollection<KeyValuePair<ulong, string>>();

    internal bool WasCalled
    {
        get { return this.calls.Count > 0; }
    }

    public bool Protect(ulong socket)
    {
        this.calls.Add(new KeyValuePair<ulong, string>(socket, TestpeerFunctions.NativeThreadName()));
        return true;
    }

    internal KeyValuePair<ulong, string> Next()
    {
        return Check.Next(this.calls);
    }

    internal void Forget()
    {
        this.calls = new BlockingCollection<KeyValuePair<ulong, string>>();
    }
}

// Knows one name.
internal sealed class Resolver : IHostResolver
{
    public IReadOnlyList<string> Resolve(string host)
    {
        Check.Equal("vpn.example.com", host);
        return new[] { "127.0.0.1" };
    }
}

// Fails in ways that are declared and in ways that are not.
internal sealed class Throwing : IEventListener, ISocketProtector, IHostResolver
{
    private readonly Exception error;

    internal Throwing(Exception error = null)
    {
        this.error = error;
    }

    internal BlockingCollection<bool> Calls { get; } = new BlockingCollection<bool>();

    public void OnEvent(Event @event)
    {
        this.Fail();
    }

    public bool Protect(ulong socket)
    {
        return this.Fail();
    }

    public IReadOnlyList<string> Resolve(string host)
    {
        this.Fail();
        return new string[0];
    }

    private bool Fail()
    {
        this.Calls.Add(true);
        if (this.error != null)
        {
            throw this.error;
        }
        return false;
    }
}

internal sealed class App
{
    internal const string Windows = "windows.log.test.example";
    internal const string Flows = "flows.log.test.example";
    internal const string Sessions = "sessions.log.test.example";
    internal const string Sockets = "sockets.log.test.example";
    internal const string Diagnostics = "diagnostics.log.test.example";

    private readonly string directory;

    internal App(string directory)
    {
        this.directory = directory;
    }

    internal LogServer Server { get; } = LogServer.Start();

    internal VirtualNetwork Network { get; } = new VirtualNetwork();

    internal Recorder Recorder { get; } = new Recorder();

    internal Protector Protector { get; } = new Protector();

    internal Client Client { get; set; }

    // What the step "host transport" leaves for the step "claim".
    internal CarriedFlow Left { get; set; }

    internal static NetworkMap Map
    {
        get
        {
            Node own = new Node(1, "n1")
            {
                Name = "phone.example.com.", Addresses = new[] { "100.64.0.1", "fd7a:115c:a1e0::1" }, User = 9,
            };
            Node peer = new Node(2, "n2")
            {
                Name = "office.example.com.", Addresses = new[] { "100.64.0.2", "fd7a:115c:a1e0::2" },
            };
            return new NetworkMap { SelfNode = own, Peers = new[] { peer }, Users = new[] { new User(9, "user@example.com") } };
        }
    }

    internal static Routes Routes
    {
        get { return new Routes { Local = new[] { "100.64.0.1" }, Remote = new[] { "100.64.0.0/10", "10.20.0.0/16" } }; }
    }

    internal static ResourceRule Rule(ulong resource, string prefix, ushort port)
    {
        return new ResourceRule(resource, new[] { prefix }) { Ports = new[] { new PortRange(port, port) }, Protocol = 6 };
    }

    internal string Path(string name)
    {
        return System.IO.Path.Combine(this.directory, name);
    }

    internal string[] Files(string name)
    {
        string folder = this.Path(name);
        return Directory.Exists(folder) ? Directory.GetFiles(folder, "*", SearchOption.AllDirectories) : new string[0];
    }

    internal ClientConfig Config(string name, Consent consent = Consent.Granted, string baseUrl = null)
    {
        string path = name.Length == 0 ? name : this.Path(name);
        return new ClientConfig(path, baseUrl ?? this.Server.Url(), consent)
        {
            Collections = new Collections
            {
                Windows = Windows, Flows = Flows, Sessions = Sessions, Sockets = Sockets, Diagnostics = Diagnostics,
            },
        };
    }

    internal TunnelConfig TunnelConfig()
    {
        return TuntrailFfiFunctions.ParseTunnelConfig(this.Network.TunnelConfig());
    }

    internal void StartTunnel(Client client, ISocketProtector protector = null)
    {
        client.SetNetwork(Map, Routes);
        client.StartTunnel(this.TunnelConfig(), new TunDevice.Tun(this.Network.Attach()), protector, null);
    }

    // Sends everything, which must succeed.
    internal void Upload(Client client = null)
    {
        using (Upload upload = (client ?? this.Client).Upload("scenario"))
        {
            UploadReport report = upload.Join();
            Check.True(report.Complete, report.Summary);
        }
    }

    // What the server knows of a connection, over all windows.
    internal Counts Recorded(CarriedFlow flow)
    {
        return Counts.Sum(this.Server.Flows(Windows).Where(
            row => row.Source == flow.Source && row.Destination == flow.Destination));
    }

    internal RecordedFlow[] ExitRows()
    {
        return this.Server.Flows(Windows).Where(row => row.Kind == TrafficKind.Exit).ToArray();
    }
}
