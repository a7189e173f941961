#include "cache/verify/lexicon.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace holdfast::cache::verify {
namespace {

// --- The tables. A row is one group; words are lower case, as question.cc cuts them. ---

constexpr std::string_view kFunctionWords =
    "a an the this that these those my your his her its our their mine yours i me you he him she "
    "it "
    "we us they them one ones s is are was were be been being am do does did doing done have has "
    "had "
    "having will would shall should can could may might must ought to of in on at by for from with "
    "about as into onto upon and or but if then than so because while when where who whom whose "
    "which "
    "what why how there here some any each every other another such only own same too very just "
    "also "
    "please kindly tell let lets get got getting give want wants need needs like know hi hello hey "
    "thanks thank ok okay well really actually exactly ever way ways thing things something "
    "someone "
    "anyone anything people person use using used make makes making go going up out off over down "
    "not no nor never without cannot im ive id whats hows wheres whos thats u ur r pls plz abt via "
    "per "
    "etc eg ie re ll ve d m t o much many more most lot lots bit kind sort say says said";

constexpr std::string_view kNegations =
    "not no never without none nothing nobody neither nor cannot n't isnt arent dont doesnt didnt "
    "cant canot non "
    "couldnt wont wouldnt shouldnt hasnt havent hadnt except excluding unless";

constexpr std::string_view kPrepositions =
    "in on at for from with without by during after before until till since under over above below "
    "between through against within outside inside near if when while unless whose who only except "
    "including according among across as per where via using despite because although";

constexpr std::string_view kSymmetric =
    "or and vs versus between difference differ differs different compare compared comparison both "
    "common together with relate equal same";

constexpr std::string_view kDirected =
    "from to into onto over than before after of for by against under above below in out as with "
    "give convert change turn replace move switch";

// Spellings and near synonyms: members of a row count as the same word.
constexpr std::string_view kSynonyms[] = {
    "javascript js ecmascript",
    "typescript ts",
    "python py python3",
    "kubernetes k8s kube",
    "postgres postgresql psql pg",
    "golang go",
    "mongodb mongo",
    "regex regexp regexes",
    "dictionary dict dicts",
    "directory folder",
    "repository repo",
    "database db",
    "application app apps program",
    "mac macos osx imac macbook",
    "environment env venv virtualenv",
    "delete remove erase",
    "buy purchase",
    "start begin commence",
    "end finish stop ending",
    "fix solve repair resolve",
    "cost price fee charge rate expensive pricey",
    "kids kid child children",
    "mobile phone smartphone cellphone",
    "photo picture image pic photos",
    "movie film",
    "doctor physician gp",
    "job position work employment",
    "boss manager supervisor",
    "salary pay wage wages earnings income",
    "company firm employer corporate business",
    "big large huge",
    "small little tiny",
    "quick fast quickly speedy",
    "error exception",
    "difference differ different differs distinguish distinction",
    "versus vs compare comparison",
    "reason cause causes explain explains",
    "list enumerate",
    "create make build generate",
    "show display print see view",
    "mail email e-mail emails",
    "car automobile vehicle auto",
    "house home flat apartment",
    "university uni college",
    "usa us america states american",
    "uk britain british england",
    "india indian",
    "germany german",
    "france french",
    "china chinese",
    "japan japanese",
    "russia russian",
    "spain spanish",
    "italy italian",
    "canada canadian",
    "australia australian aussie",
    "pakistan pakistani",
    "loo toilet bathroom",
    "refund reimbursement",
    "holiday vacation leave",
    "lawyer attorney solicitor",
    "shop store",
    "request ask apply",
    "cancel terminate",
    "ill sick",
    "illness disease sickness",
    "medicine medication drug pills meds",
    "teenager teen teens",
    "mum mom mother",
    "dad father",
    "flight plane",
    "luggage baggage",
    "underground subway tube metro",
    "autumn fall",
    "lorry truck",
    "film movie",
    "maths math mathematics",
    "exam test examination",
    "grade mark score",
    "info information details",
    "number count amount quantity",
    "address addr",
    "password pwd passcode",
    "function func method",
    "variable var",
    "string str",
    "integer int",
    "array list",
    "command cmd",
    "config configuration settings",
    "photo image",
    "tv television",
    "bike bicycle",
    "city town",
    "nation country",
    "president leader",
    "lose reduce decrease lower shed",
    "gain increase raise grow improve boost",
    "weight kilos pounds fat",
    "best top greatest finest good ideal",
    "worst poorest",
    "avg average mean",
    "max maximum highest most",
    "min minimum lowest least",
    "permit allow allowed permitted legal",
    "illegal forbidden banned prohibited",
    "search find locate look",
    "choose pick select",
    "receive obtain get",
    "keep retain hold",
    "speak talk",
    "learn study",
    "teach train",
    "answer reply response respond",
    "begin beginner novice",
    "guide tutorial howto",
    "important significant",
    "hard difficult tough",
    "easy simple basic",
    "happen occur",
    "contain include",
    "send mail post dispatch",
    "parcel package delivery shipment",
    "close shut",
    "rich wealthy",
    "poor broke",
    "male man men boy",
    "female woman women girl",
    "husband spouse",
    "clean wash",
    "dish meal food",
    "infant baby newborn",
    "cash money",
    "earn make",
    "marry marriage wedding",
    "divorce split",
    "passion interest",
    "fine penalty ticket",
    "invoice bill",
    "card visa",
    "warranty guarantee",
    "install setup set",
    "run execute launch start",
    "reset restore",
    "sort order arrange",
    "merge combine join",
    "copy duplicate clone",
    "rename name",
    "update upgrade",
    "replace substitute swap",
    "check verify test validate",
    "squash compress",
    "convert transform turn change",
    "meaning definition mean means define",
    "summary summarise summarize sum",
    "translate translation render put",
    "photo pictures",
    "colour color",
    "favourite favorite",
    "centre center",
    "organise organize",
    "licence license",
    "programme program",
    "tyre tire",
    "grey gray",
    "litre liter liters litres",
    "metre meter",
    "demonetization demonetisation ban currency",
    "currency notes money",
    "ww2 wwii",
    "ww1 wwi",
};

// Words of one row exclude each other: another one of them is another question.
constexpr std::string_view kFamilies[] = {
    // "a=b" are spellings of one member.
    "windows linux mac=macos=osx=macbook=imac ubuntu debian fedora android ios=iphone chromebook "
    "unix centos",
    "python=py java javascript=js typescript=ts c c++=cpp c# rust go=golang ruby php perl kotlin "
    "swift scala "
    "bash=shell powershell r matlab haskell sql excel html css",
    "mysql postgres=postgresql mongodb=mongo redis sqlite oracle mariadb cassandra dynamodb "
    "elasticsearch",
    "react angular vue svelte jquery",
    "django flask fastapi laravel rails spring express",
    "aws=amazon azure=microsoft gcp=google digitalocean heroku",
    "docker kubernetes=k8s helm terraform ansible podman",
    "npm yarn pip conda maven gradle cargo poetry",
    "pandas numpy pytorch tensorflow keras sklearn",
    "chrome firefox safari edge opera",
    "whatsapp instagram facebook twitter snapchat tiktok telegram youtube "
    "linkedin quora reddit pinterest discord zoom teams skype slack",
    "gmail outlook yahoo hotmail",
    "paypal venmo zelle stripe cashapp wise",
    "netflix hulu spotify disney hbo",
    "samsung apple xiaomi oneplus nokia motorola huawei sony lg htc oppo vivo",
    "uber lyft ola grab",
    "dell hp lenovo asus acer macbook",
    "toyota honda ford bmw audi mercedes tesla volkswagen mazda kia hyundai nissan",
    "ryanair easyjet lufthansa emirates delta united",
    "airbnb booking expedia hostelworld",
    "tcs infosys wipro accenture cognizant capgemini ibm deloitte hcl",
    "visa mastercard amex discover",
    "usa=us=america=american uk=britain=british=england=english scotland=scottish wales=welsh "
    "ireland=irish "
    "india=indian pakistan=pakistani china=chinese japan=japanese korea=korean germany=german "
    "france=french "
    "spain=spanish italy=italian portugal=portuguese brazil=brazilian mexico=mexican "
    "canada=canadian "
    "australia=australian russia=russian poland=polish sweden=swedish norway=norwegian "
    "denmark=danish "
    "finland=finnish netherlands=dutch belgium=belgian switzerland=swiss austria=austrian "
    "greece=greek "
    "turkey=turkish israel=israeli iran=iranian iraq=iraqi egypt=egyptian kenya=kenyan "
    "nigeria=nigerian "
    "singapore malaysia=malaysian thailand=thai vietnam=vietnamese indonesia=indonesian "
    "philippines=filipino "
    "nepal=nepali bangladesh=bangladeshi ukraine=ukrainian hungary=hungarian romania=romanian "
    "argentina=argentinian chile=chilean iceland=icelandic taiwan=taiwanese cuba=cuban "
    "syria=syrian",
    "london paris berlin madrid rome tokyo delhi mumbai bangalore=bengaluru chennai hyderabad pune "
    "kolkata "
    "sydney melbourne toronto vancouver dublin edinburgh manchester chicago boston seattle texas "
    "california "
    "florida dubai vienna amsterdam moscow beijing shanghai istanbul lisbon munich frankfurt",
    "january=jan february=feb march april=apr may june=jun july=jul august=aug september=sep=sept "
    "october=oct "
    "november=nov december=dec",
    "monday=mon tuesday=tue wednesday=wed thursday=thu friday=fri saturday=sat sunday=sun",
    "spring summer autumn=fall winter",
    "morning afternoon evening night",
    "before during after",
    "make keep lose",
    "running stopped",
    "create activate deactivate delete rename",
    "red blue green yellow black white brown orange purple pink grey=gray violet",
    "dollar=dollars=usd=$ euro=euros=eur=€ pound=pounds=gbp=£ rupee=rupees=inr=rs=₹ yen=jpy=¥ "
    "yuan=cny franc=chf "
    "krona=kronor bitcoin=btc ethereum=eth",
    "mother=mum=mom father=dad brother sister=sis son daughter husband wife boyfriend=bf "
    "girlfriend=gf uncle aunt "
    "grandmother=grandma grandfather=grandpa cousin friend boss colleague=coworker "
    "neighbour=neighbor",
    "dog=dogs=puppy cat=cats=kitten rabbit hamster horse parrot fish bird snake",
    "math=maths physics chemistry biology history geography economics psychology philosophy "
    "literature",
    "mechanical civil electrical electronics computer chemical aerospace",
    "gate upsc=ias neet jee cat gre gmat toefl "
    "ielts sat ssc clat",
    "bachelor=bachelors=undergraduate master=masters=ms phd=doctorate mba mbbs diploma",
    "mercury venus earth mars jupiter saturn uranus neptune pluto moon sun",
    "guitar piano violin drums flute ukulele cello",
    "football=soccer tennis cricket basketball baseball hockey rugby golf",
    "messi ronaldo neymar pele maradona",
    "dhoni kohli tendulkar=sachin sehwag dravid ganguly",
    "trump clinton=hillary obama biden bush sanders reagan kennedy",
    "modi gandhi nehru kejriwal",
    "hitler stalin churchill mussolini roosevelt napoleon lenin",
    "vegan vegetarian kosher halal",
    "ibuprofen paracetamol=acetaminophen aspirin",
    "vitamin iron calcium zinc magnesium protein",
    "butter oil margarine",
    "tea coffee beer wine vodka whisky=whiskey rum milk water juice",
    "chicken beef pork fish lamb turkey rice pasta bread egg=eggs potato=potatoes",
    "bus train plane=flight car taxi bike=bicycle ferry ship boat",
    "json xml csv yaml html pdf markdown",
    "get post put patch delete head",
    "tcp udp http https ftp ssh smtp",
    "ipv4 ipv6",
    "stock=stocks=shares bond=bonds "
    "etf=etfs crypto gold property",
    "marvel dc",
    "dna rna",
    "mitosis meiosis",
    "ac dc",
    "mean median mode",
    "hotel hostel airbnb",
    "credit debit prepaid",
    "roth traditional",
    "left right inner outer",
    "venv conda",
    "acid base",
    "atom molecule ion",
    "virus bacteria fungus",
    "christian=christianity=christians muslim=islam=muslims "
    "hindu=hinduism=hindus jewish=judaism=jews=jew buddhist=buddhism sikh=sikhism atheist=atheism",
    "celsius=c fahrenheit=f kelvin=k",
    "first second third fourth fifth last",
    "year month week day hour minute",
    "name email address phone password username pin photo",
    "teacher student doctor nurse lawyer engineer",
    "beginner intermediate advanced expert",
    "passport visa licence=license",
};

// Two poles a row.
constexpr std::string_view kOpposites[] = {
    "increase raise gain grow rise up higher more : decrease reduce lower lose drop fall down less "
    "fewer",
    "large larger big bigger greater over above longer taller : small smaller under below shorter "
    "little less",
    "fast faster quick : slow slower slowly",
    "maximum max highest most latest : minimum min lowest least earliest",
    "open opening unlock start : close closing lock shut stop end",
    "before prior early earlier : after later late following",
    "with including : without excluding except minus",
    "best better good pros advantages benefits benefit : worst worse bad cons "
    "disadvantages drawbacks risks downsides",
    "buy buying purchase bought : sell selling sold sale rent lease",
    "import : export",
    "encrypt encode compress pack zip : decrypt decode decompress unpack unzip",
    "upload push : download pull",
    "enable activate on allow : disable deactivate off block",
    "install add insert attach create set : uninstall remove delete detach drop unset",
    "connect join : disconnect leave quit",
    "hire hiring : fire firing dismiss",
    "win won winner : lose lost loser loss",
    "inside indoor indoors internal : outside outdoor outdoors external",
    "local : remote global",
    "public : private",
    "male man men boy boys guy guys him he husband : female woman women girl girls lady her she "
    "wife",
    "legal allowed permitted : illegal forbidden "
    "banned prohibited",
    "safe : dangerous unsafe harmful risky",
    "hot warm heat : cold cool freeze",
    "north : south",
    "east : west",
    "left : right",
    "ascending : descending",
    "positive : negative",
    "borrow : lend loan",
    "pass passed : fail failed failing",
    "accept approve : reject decline refuse deny",
    "give send sending : receive take receiving get",
    "arrive arrival arriving : depart departure leaving leave",
    "encourage love like : discourage hate dislike",
    "same similarity similarities common alike : difference differences different differ",
    "old older oldest : new newer newest young younger youngest",
    "rich wealthy : poor",
    "strong stronger : weak weaker",
    "hard difficult : easy simple",
    "first : last",
    "minimum : maximum",
    "upgrade : downgrade",
    "check-in checkin : checkout check-out",
    "on : off",
    "full : empty partial half",
    "single one : multiple several many two both all",
    "include : exclude",
    "show display : hide",
    "sync synchronous : async asynchronous",
    "true : false",
    "formal polite : informal casual rude",
    "verbal spoken oral : written",
    "paid : free unpaid",
    "employee employees worker : employer employers",
    "tenant renter : landlord owner",
    "buyer customer : seller vendor",
    "domestic : international abroad overseas",
    "full-time : part-time",
    "gross : net",
    "morning : evening night",
    "summer : winter",
    "introvert introverts introverted : extrovert extroverts extroverted",
    "debit : credit",
    "adult adults : child children kids baby",
    "deposit : withdraw withdrawal",
    "remember : forget forgot",
    "merge combine join : split separate",
    "row rows : column columns",
    "read reading : write writing",
    "client : server",
    "asc : desc",
    "expand : collapse",
    "singular : plural",
    "active : passive",
    "marry : divorce",
    "life alive live : death dead die",
    "beginning : end",
    "lend : borrow",
    "push : pull",
    "attack : defend",
    "question : answer",
    "cause : effect",
    "theory : practice",
    "supply : demand",
    "parent parents : child",
    "mother : father",
    "son : daughter",
    "brother : sister",
    "day : night",
    "war : peace",
    "wet : dry",
    "thick : thin",
    "long : short",
    "wide : narrow",
    "deep : shallow",
    "light : dark heavy",
    "clean : dirty",
    "soft : hard",
    "loud : quiet",
    "sweet : sour",
    "smart intelligent : stupid dumb",
    "happy : sad unhappy",
    "beautiful pretty : ugly",
    "true : fake false",
    "real : fake",
    "success succeed successful : failure fail",
    "sooner earlier : later",
    "recover restore keep save : destroy delete lose",
    "undo revert : redo",
    "stage : unstage",
    "comment : uncomment",
    "mount : unmount",
};

// What opens a sentence that says how to answer, behind the question itself.
constexpr std::string_view kInstructions =
    "answer reply respond give format output return write put show list say keep translate explain "
    "summarise summarize réponds répondez antworte antworten responde rispondi";

// Words that narrow or widen what is asked; a row for each sense.
constexpr std::string_view kQualifiers[] = {
    "only just solely merely",
    "all every each everything everyone whole entire",
    "first initial",
    "last previous",
    "if whether provided supposing",
    "unless",
    "before prior",
    "after following",
    "until till",
    "during while",
    "instead rather",
    "still yet anymore",
    "again twice",
    "most",
    "best top greatest",
    "worst",
    "without",
    "except excluding besides",
    "own myself yourself oneself himself alone",
    "online",
    "free",
    "automatically automatic",
    "manually manual",
    "permanently permanent",
    "legally legal",
    "safely safe",
    "beginner beginners",
    "abroad overseas",
    "max maximum",
    "min minimum",
    "exactly exact",
    "average typical",
};

constexpr std::string_view kForms[] = {
    "email e-mail mail",
    "letter",
    "table spreadsheet columns",
    "list bullet bullets bulleted points checklist",
    "poem rhyme haiku limerick verse",
    "essay article prose",
    "code function script snippet program",
    "formula",
    "regex regexp",
    "json",
    "csv",
    "xml yaml",
    "slogan slogans tagline",
    "paragraph paragraphs",
    "sentence",
    "tweet caption captions",
    "sms text-message whatsapp",
    "report minutes",
    "outline",
    "recipe",
    "story",
    "speech toast",
    "diagram chart graph plot",
    "title titles headline subject",
    "quiz questions",
    "plan schedule itinerary",
    "template",
    "example examples",
    "steps step-by-step",
    "summary",
    "one-liner",
    "dialogue",
    "song lyrics",
    "flashcards",
    "link links url",
    "pdf",
    "python",
    "sql",
    "excel",
    "video videos",
    "book books",
    "word words",
    "one-word",
};

constexpr std::string_view kTasks[] = {
    "write draft compose",
    "translate translation",
    "summarise summarize summary sum tldr",
    "proofread correct",
    "rewrite rephrase reword paraphrase",
    "explain",
    "convert",
    "calculate compute",
    "prove",
    "debug",
    "review critique",
    "delete remove",
    "install",
    "list",
    "compare",
    "define",
    "recommend suggest",
    "shorten",
    "lengthen expand",
    "solve",
    "plan",
    "design",
    "update",
    "cancel",
    "rename",
    "create",
    "refactor",
    "document",
    "count",
    "find",
    "sort",
    "test tests",
};

constexpr std::string_view kUnits[] = {
    "km kms kilometre kilometres kilometer kilometers",
    "mile miles mi",
    "metre metres meter meters m",
    "cm centimetre centimetres centimeter centimeters",
    "mm millimetre millimetres",
    "inch inches",
    "foot feet ft",
    "yard yards",
    "kg kgs kilo kilos kilogram kilograms",
    "g gram grams gramme",
    "mg milligram milligrams",
    "lb lbs",
    "ounce ounces oz",
    "litre litres liter liters l",
    "ml millilitre millilitres milliliters",
    "gallon gallons",
    "cup cups",
    "tablespoon tablespoons tbsp",
    "teaspoon teaspoons tsp",
    "pint pints",
    "celsius °c",
    "fahrenheit °f",
    "kelvin kelvins",
    "second seconds sec secs",
    "minute minutes mins min",
    "hour hours hrs hr h",
    "day days",
    "week weeks wk",
    "month months",
    "year years yr yrs",
    "byte bytes",
    "kb kilobytes",
    "mb megabytes",
    "gb gigabytes",
    "tb terabytes",
    "volt volts v",
    "watt watts w kw",
    "amp amps ampere",
    "ohm ohms",
    "joule joules j",
    "newton newtons n",
    "percent % percentage",
    "usd dollar dollars $",
    "eur euro euros €",
    "gbp pounds pound £ quid",
    "inr rupee rupees rs ₹ lakh lakhs crore",
    "kronor",
    "yen ¥",
    "mph",
    "kmh km/h",
    "hz hertz",
    "acre acres",
    "hectare hectares",
    "calorie calories kcal",
    "degree degrees",
    "radian radians rad",
    "bit bits",
    "mole moles mol",
};

constexpr std::string_view kLanguageNames[] = {
    "english",
    "german deutsch",
    "french français francais",
    "spanish español castellano",
    "portuguese português brazilian",
    "italian italiano",
    "dutch",
    "polish",
    "russian",
    "chinese mandarin",
    "japanese",
    "korean",
    "hindi",
    "arabic",
    "turkish",
    "swedish",
    "latin",
    "greek",
    "tamil",
    "telugu",
    "urdu",
    "bengali",
    "danish",
    "norwegian",
    "finnish",
    "czech",
    "hebrew",
    "vietnamese",
};

// The commonest words of each language; what several share has several bits.
constexpr std::string_view kCommonWords[] = {
    "the is are what how do does i my of to and in for can with you it this that why when which a "
    "an be on from should",
    "der die das ist und wie ich ein eine zu mit für nicht den dem was kann man wir mein auf sind "
    "im warum wird auch bei von wo wann",
    "le la les est et je un une des du que comment pour avec pas dans qui mon ma ce sur en au "
    "quelle quel pourquoi puis-je sont quels où",
    "el la los es y yo un una de que cómo como para con no en qué mi se por cuál puedo del las son "
    "cuánto dónde cuándo está",
    "o a os é e eu um uma de que como para com não em meu se por qual posso do da são quanto onde "
    "está faço",
    "il la i è e io un una di che come per con non in mio si qual posso del della sono quanto dove "
    "gli sul alla cosa",
    "de het een is en ik van hoe wat voor met niet op mijn kan zijn waarom welke naar ook dat",
    "jak jest i w na z do się nie to co czy dla mam mogę o po jakie dlaczego gdzie",
};

constexpr std::string_view kNow =
    "now today current currently latest tonight nowadays recent recently still yet present newest "
    "tomorrow week";
constexpr std::string_view kPast =
    "was were did ago previous previously former formerly had used historically originally old "
    "past century";

struct Phrase {
  std::string_view text;
  KindSet kinds;
};

// Longest meaning first is not needed: every phrase found adds its kinds.
constexpr Phrase kPhrases[] = {
    {" how do i ", kHowTo},
    {" how do we ", kHowTo},
    {" how do you ", kHowTo},
    {" how can ", kHowTo},
    {" how to ", kHowTo},
    {" how should i ", kHowTo},
    {" how would ", kHowTo},
    {" how could ", kHowTo},
    {" how does one ", kHowTo},
    {" way to ", kHowTo},
    {" way of ", kHowTo},
    {" ways to ", kHowTo},
    {" ways of ", kHowTo},
    {" steps ", kHowTo},
    {" what should i do ", kHowTo},
    {" what can i do ", kHowTo},
    {" what do i do ", kHowTo},
    {" what must i do ", kHowTo},
    {" command ", kHowTo},
    {" procedure ", kHowTo},
    {" process for ", kHowTo},
    {" tips ", kHowTo},
    {" trick ", kHowTo},
    {" tricks ", kHowTo},
    {" how must i ", kHowTo},
    {" how shall i ", kHowTo},
    {" how am i ", kHowTo},
    {" techniques ", kHowTo},
    {" why ", kWhy},
    {" reason ", kWhy},
    {" reasons ", kWhy},
    {" how come ", kWhy},
    {" what causes ", kWhy},
    {" cause ", kWhy},
    {" causes ", kWhy},
    {" causing ", kWhy},
    {" explains ", kWhy},
    {" what makes ", kWhy},
    {" went wrong ", kWhy},
    {" what is behind ", kWhy},
    {" factors ", kWhy},
    {" what leads to ", kWhy},
    {" reasons for ", kWhy},
    {" what time ", kWhen},
    {" what date ", kWhen},
    {" which date ", kWhen},
    {" what year ", kWhen},
    {" which year ", kWhen},
    {" what day ", kWhen},
    {" which day ", kWhen},
    {" deadline ", kWhen},
    {" by when ", kWhen},
    {" opening hours ", kWhen},
    {" what month ", kWhen},
    {" start date ", kWhen},
    {" release date ", kWhen},
    {" how soon ", kWhen},
    {" which country ", kWhere},
    {" what country ", kWhere},
    {" which city ", kWhere},
    {" what city ", kWhere},
    {" location of ", kWhere},
    {" which place ", kWhere},
    {" what place ", kWhere},
    {" whom ", kWho},
    {" who is ", kWho},
    {" by whom ", kWho},
    {" which person ", kWho},
    {" how much ", kHowMuch},
    {" cost ", kHowMuch},
    {" costs ", kHowMuch},
    {" price ", kHowMuch},
    {" fee ", kHowMuch},
    {" fees ", kHowMuch},
    {" how expensive ", kHowMuch},
    {" prices ", kHowMuch},
    {" charged ", kHowMuch},
    {" how many ", kHowMany},
    {" number of ", kHowMany},
    {" what number ", kHowMany},
    {" how long ", kHowLong},
    {" duration ", kHowLong},
    {" how quickly ", kHowLong},
    {" how fast ", kHowLong},
    {" how many days ", kHowLong},
    {" how many weeks ", kHowLong},
    {" how many hours ", kHowLong},
    {" how many months ", kHowLong},
    {" how many years ", kHowLong},
    {" time does it take ", kHowLong},
    {" how much time ", kHowLong},
    {" time limit ", kHowLong},
    {" how many minutes ", kHowLong},
    {" how often ", kHowOften},
    {" how frequently ", kHowOften},
    {" how regularly ", kHowOften},
    {" frequency ", kHowOften},
    {" what intervals ", kHowOften},
    {" how many times ", kHowOften},
    {" meaning ", kDefinition},
    {" mean ", kDefinition},
    {" means ", kDefinition},
    {" definition ", kDefinition},
    {" define ", kDefinition},
    {" explained ", kDefinition},
    {" what is a ", kDefinition},
    {" what is an ", kDefinition},
    {" what are ", kDefinition},
    {" stand for ", kDefinition},
    {" what is the meaning ", kDefinition},
    {" what does it mean ", kDefinition},
    {" difference ", kDifference},
    {" differences ", kDifference},
    {" differ ", kDifference},
    {" vs ", kDifference},
    {" versus ", kDifference},
    {" compare ", kDifference},
    {" compared ", kDifference},
    {" apart ", kDifference},
    {" distinguishes ", kDifference},
    {" distinguish ", kDifference},
    {" better ", kAdvice},
    {" which is better ", kAdvice},
    {" best ", kAdvice},
    {" should i ", kAdvice},
    {" recommend ", kAdvice},
    {" suggest ", kAdvice},
    {" advice ", kAdvice},
    {" worth ", kAdvice},
    {" good idea ", kAdvice},
    {" which should ", kAdvice},
    {" should we ", kAdvice},
    {" examples ", kExamples},
    {" example ", kExamples},
    {" list ", kExamples},
    {" what are some ", kExamples},
    {" which ones ", kExamples},
    {" at what age ", kAge},
    {" how old ", kAge},
    {" age ", kAge},
    {" what age ", kAge},
    {" which age ", kAge},
    {" how far ", kHowFar},
    {" distance ", kHowFar},
    {" how tall ", kHowFar},
    {" how high ", kHowFar},
    {" height ", kHowFar},
    {" how big ", kHowFar},
    {" how deep ", kHowFar},
    {" is it possible ", kYesNo},
    {" am i allowed ", kYesNo},
    {" is it true ", kYesNo},
    {" is there ", kYesNo},
    {" is it safe ", kYesNo},
    {" is it legal ", kYesNo},
    {" or not ", kYesNo},
    {" allowed ", kYesNo},
};

// These ask only where they open the question, or where nothing else in it does: elsewhere they
// join clauses.
constexpr Phrase kAskers[] = {
    {" when ", kWhen}, {" where ", kWhere}, {" who ", kWho}, {" whose ", kWho}};

// The word that a question turns on, and its class: "what" and "which" ask alike.
constexpr std::string_view kQuestionWords[] = {
    "what which whats", "how hows", "why", "when", "where wheres", "who whom whose whos"};

// Before what a question points at: "this", unless a time or a manner follows.
constexpr std::string_view kPointing = "this these above attached below shown";
constexpr std::string_view kNotPointedAt =
    "year years week weeks month months morning afternoon evening time times way ways is was are "
    "were day days weekend summer winter spring autumn season quarter semester century and or so";

constexpr std::string_view kYesNoOpeners =
    "is are was were am do does did can could may might will would shall should has have had isnt "
    "arent";

constexpr std::string_view kPointers[] = {
    " the code above ",
    " code above ",
    " the above ",
    " sentence above ",
    " above code ",
    " line of the code ",
    " this picture ",
    " this photo ",
    " this image ",
    " this screenshot ",
    " attached ",
    " the attachment ",
    " your last answer ",
    " your previous ",
    " previous answer ",
    " last answer ",
    " your answer ",
    " you said ",
    " you mentioned ",
    " you gave ",
    " my proof ",
    " my plan ",
    " my code ",
    " this code ",
    " this function ",
    " this query ",
    " this text ",
    " this paragraph ",
    " this sentence ",
    " this essay ",
    " this cover letter ",
    " this letter ",
    " this email ",
    " this error ",
    " this plan ",
    " this script ",
    " this file ",
    " this formula ",
    " this table ",
    " this chart ",
    " this graph ",
    " this article ",
    " this poem ",
    " this contract ",
    " this document ",
    " this list ",
    " this list ",
    " that key ",
    " the one above ",
    " as above ",
    " mentioned above ",
    " the following ",
    " these two ",
    " these notes ",
    " my essay ",
    " my story ",
    " my draft ",
    " my answer ",
    " earlier answer ",
    " the same one ",
    " this equation ",
    " this problem ",
    " this question ",
    " this passage ",
    " this link ",
    " this video ",
    " this song ",
    " this word ",
    " this book ",
    " last paragraph ",
    " this data ",
    " here is ",
    " below ",
    " my cv ",
    " my resume ",
    " on my card ",
    " this plot ",
    " this diagram ",
    " these numbers ",
    " these sentences ",
    " what is this ",
    " who is this ",
    " is this correct ",
    " this mean ",
    " that mean ",
    " this one ",
    " is this a ",
    " this guy ",
    " this girl ",
    " this person ",
    " this logo ",
    " this bug ",
    " this recipe ",
    " that code ",
    " that function ",
    " this regex ",
    " this program ",
};

constexpr std::string_view kNumberWords =
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty";
constexpr std::string_view kOrdinals =
    "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth";
constexpr std::string_view kRomans = "- - ii iii iv - vi vii viii ix";

// Lemma forms that no rule of Stem() finds.
constexpr std::string_view kIrregular[] = {
    "buy bought",
    "go went gone goes",
    "sell sold",
    "lose lost losing",
    "win won",
    "run ran",
    "write wrote written writing",
    "break broke broken",
    "find found",
    "send sent",
    "pay paid",
    "leave left",
    "keep kept",
    "teach taught",
    "think thought",
    "bring brought",
    "speak spoke spoken",
    "choose chose chosen",
    "fall fell fallen",
    "forget forgot forgotten",
    "begin began begun",
    "child children",
    "man men",
    "woman women",
    "foot feet",
    "tooth teeth",
    "mouse mice",
    "index indices indexes",
    "die died dying dead death",
    "eat ate eaten",
    "drink drank drunk",
    "drive drove driven driving",
    "fly flew flown",
    "grow grew grown",
    "meet met",
    "rise rose risen",
    "sleep slept",
    "steal stole stolen",
    "swim swam",
    "take took taken taking",
    "tear tore torn",
    "wake woke woken waking",
    "wear wore worn",
    "build built",
    "catch caught",
    "feel felt",
    "hold held",
    "hide hid hidden",
    "learn learnt learned",
    "spend spent",
    "tax taxes",
    "analysis analyses",
    "life lives",
    "wife wives",
    "knife knives",
    "leaf leaves",
    "good better best",
    "bad worse worst",
    "give gave given giving",
    "make made",
    "see saw seen",
    "come came",
    "tell told",
    "understand understood",
    "draw drew drawn",
    "freeze froze frozen",
    "shake shook shaken",
    "sing sang sung",
};

// Weights of known words, by stem: how rare it is in the questions of the project's own data.
struct KnownWord {
  std::string_view stem;
  float weight;
};
constexpr KnownWord kKnownWords[] = {
#include "cache/verify/word_weights.inc"
};

// --- Reading the tables. ---

template <typename Visit>
void ForEachWord(std::string_view row, Visit visit) {
  while (!row.empty()) {
    const size_t end = std::min(row.find(' '), row.size());
    if (end > 0) visit(row.substr(0, end));
    row.remove_prefix(std::min(row.size(), end + 1));
  }
}

using Set = std::unordered_set<std::string_view>;
using Numbers = std::unordered_map<std::string_view, uint32_t>;

Set MakeSet(std::string_view words) {
  Set set;
  ForEachWord(words, [&](std::string_view word) { set.insert(word); });
  return set;
}

// Word to the row's number, from 1.
template <size_t kRows>
Numbers MakeRows(const std::string_view (&rows)[kRows]) {
  Numbers map;
  for (uint32_t i = 0; i < kRows; ++i) {
    ForEachWord(rows[i], [&](std::string_view word) { map.try_emplace(word, i + 1); });
  }
  return map;
}

template <size_t kRows>
Numbers MakeBits(const std::string_view (&rows)[kRows], bool join) {
  Numbers map;
  for (uint32_t i = 0; i < kRows; ++i) {
    ForEachWord(rows[i], [&](std::string_view word) {
      uint32_t& bits = map[word];
      bits = (join ? bits : 0) | 1u << (i % 32);
    });
  }
  return map;
}

Numbers MakeSequence(std::string_view words) {
  Numbers map;
  uint32_t i = 0;
  ForEachWord(words, [&](std::string_view word) { map.try_emplace(word, i++); });
  return map;
}

std::unordered_map<std::string_view, Membership> MakeFamilies() {
  std::unordered_map<std::string_view, Membership> map;
  uint32_t family = 0;
  for (std::string_view row : kFamilies) {
    ++family;
    uint32_t member = 0;
    ForEachWord(row, [&](std::string_view spellings) {
      ++member;
      while (!spellings.empty()) {
        const size_t end = std::min(spellings.find('='), spellings.size());
        map.try_emplace(spellings.substr(0, end), Membership{family, member});
        spellings.remove_prefix(std::min(spellings.size(), end + 1));
      }
    });
  }
  return map;
}

std::unordered_map<uint64_t, std::vector<Pole>> MakePoles() {
  std::unordered_map<uint64_t, std::vector<Pole>> map;
  uint32_t pair = 0;
  for (std::string_view row : kOpposites) {
    ++pair;
    int side = 0;
    ForEachWord(row, [&](std::string_view word) {
      if (word == ":") {
        side = 1;
      } else {
        map[IdOf(Stem(word))].push_back({pair, side});
      }
    });
  }
  return map;
}

template <typename Map>
auto FindOr(const Map& map, typename Map::key_type key, typename Map::mapped_type otherwise) {
  const auto found = map.find(key);
  return found == map.end() ? otherwise : found->second;
}

bool IsVowel(char c) {
  return c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u' || c == 'y';
}

bool HasVowel(std::string_view text) { return std::any_of(text.begin(), text.end(), IsVowel); }

bool Chop(std::string& word, std::string_view ending, size_t keep) {
  if (word.size() < ending.size() + keep || !std::string_view(word).ends_with(ending)) return false;
  if (!HasVowel(std::string_view(word).substr(0, word.size() - ending.size()))) return false;
  word.resize(word.size() - ending.size());
  return true;
}

}  // namespace

uint64_t IdOf(std::string_view text) {
  uint64_t hash = 14695981039346656037u;
  for (char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 1099511628211u;
  return hash == 0 ? 1 : hash;
}

std::string Stem(std::string_view lower) {
  static const auto& irregular = *new Numbers(MakeRows(kIrregular));
  if (const uint32_t row = FindOr(irregular, lower, 0); row != 0) {
    const std::string_view words = kIrregular[row - 1];
    lower = words.substr(0, words.find(' '));
  }
  std::string word(lower);
  if (word.size() < 4) return word;
  if (word.ends_with("'s")) word.resize(word.size() - 2);
  if (word.ends_with("ies") && word.size() > 4) {
    word.replace(word.size() - 3, 3, "y");
  } else if (word.ends_with("ss") || word.ends_with("us") || word.ends_with("is")) {
    return word;
  } else {
    Chop(word, "s", 3);
  }
  Chop(word, "ing", 3) || Chop(word, "ed", 3) || Chop(word, "ly", 4) || Chop(word, "ation", 4);
  if (word.size() > 3 && word.ends_with('e')) word.pop_back();
  if (word.size() > 3 && word.ends_with('y')) word.back() = 'i';
  if (word.size() > 3 && word[word.size() - 1] == word[word.size() - 2]) word.pop_back();
  return word;
}

Word Describe(std::string_view lower) {
  static const auto& synonyms = *new std::unordered_map<uint64_t, uint64_t>([] {
    std::unordered_map<uint64_t, uint64_t> map;
    uint64_t row_id = 1;
    for (std::string_view row : kSynonyms) {
      ++row_id;
      ForEachWord(row, [&](std::string_view word) { map.try_emplace(IdOf(Stem(word)), row_id); });
    }
    return map;
  }());
  static const auto& known = *new std::unordered_map<uint64_t, float>([] {
    std::unordered_map<uint64_t, float> map;
    for (const KnownWord& word : kKnownWords) map.try_emplace(IdOf(word.stem), word.weight);
    return map;
  }());
  Word word;
  word.id = IdOf(Stem(lower));
  word.meaning = FindOr(synonyms, word.id, word.id);
  const auto found = known.find(word.id);
  word.common = found != known.end() || word.meaning != word.id || FamilyOf(lower).family != 0 ||
                !PolesOf(lower).empty();
  word.weight = found != known.end() ? found->second : kRarest;
  if (IsFunctionWord(lower)) {
    word.weight = 0;
    word.common = true;
  }
  return word;
}

#define HOLDFAST_SET(function, table)                  \
  bool function(std::string_view lower) {              \
    static const auto& set = *new Set(MakeSet(table)); \
    return set.contains(lower);                        \
  }
HOLDFAST_SET(IsFunctionWord, kFunctionWords)
HOLDFAST_SET(IsNegation, kNegations)
HOLDFAST_SET(IsPreposition, kPrepositions)
HOLDFAST_SET(IsSymmetric, kSymmetric)
HOLDFAST_SET(IsDirected, kDirected)
HOLDFAST_SET(IsPointing, kPointing)
HOLDFAST_SET(IsNotPointedAt, kNotPointedAt)
HOLDFAST_SET(IsNow, kNow)
HOLDFAST_SET(IsPast, kPast)
#undef HOLDFAST_SET

Membership FamilyOf(std::string_view lower) {
  static const auto& map = *new std::unordered_map<std::string_view, Membership>(MakeFamilies());
  return FindOr(map, lower, Membership{});
}

std::span<const Pole> PolesOf(std::string_view lower) {
  static const auto& map = *new std::unordered_map<uint64_t, std::vector<Pole>>(MakePoles());
  const auto found = map.find(IdOf(Stem(lower)));
  if (found == map.end()) return {};
  return found->second;
}

uint32_t FormOf(std::string_view lower) {
  static const auto& map = *new Numbers(MakeBits(kForms, false));
  return FindOr(map, lower, 0);
}

uint32_t QuestionWord(std::string_view lower) {
  static const auto& map = *new Numbers(MakeRows(kQuestionWords));
  return FindOr(map, lower, 0);
}

bool OpensInstruction(std::string_view lower) {
  static const auto& set = *new Set(MakeSet(kInstructions));
  return set.contains(lower);
}

uint32_t QualifierOf(std::string_view lower) {
  static const auto& map = *new Numbers(MakeBits(kQualifiers, false));
  return FindOr(map, lower, 0);
}

uint32_t TaskOf(std::string_view lower) {
  static const auto& map = *new Numbers(MakeBits(kTasks, false));
  return FindOr(map, lower, 0);
}

uint32_t UnitOf(std::string_view lower) {
  static const auto& map = *new Numbers(MakeRows(kUnits));
  return FindOr(map, lower, 0);
}

uint32_t LanguageNamed(std::string_view lower) {
  static const auto& map = *new Numbers(MakeBits(kLanguageNames, false));
  return FindOr(map, lower, 0);
}

uint32_t LanguagesOf(std::string_view lower) {
  static const auto& map = *new Numbers(MakeBits(kCommonWords, true));
  return FindOr(map, lower, 0);
}

bool NumberWord(std::string_view lower, double* value) {
  static const auto& cardinals = *new Numbers(MakeSequence(kNumberWords));
  static const auto& ordinals = *new Numbers(MakeSequence(kOrdinals));
  static const auto& romans = *new Numbers(MakeSequence(kRomans));
  for (const Numbers* map : {&cardinals, &ordinals, &romans}) {
    const auto found = map->find(lower);
    if (found == map->end() || lower == "-") continue;
    *value = found->second;
    return true;
  }
  static constexpr std::pair<std::string_view, double> kLarge[] = {
      {"hundred", 100}, {"thousand", 1e3}, {"million", 1e6}, {"billion", 1e9}, {"dozen", 12},
      {"twice", 2},     {"thirty", 30},    {"forty", 40},    {"fifty", 50},    {"sixty", 60},
      {"seventy", 70},  {"eighty", 80},    {"ninety", 90},   {"twentieth", 20}};
  for (const auto& [name, number] : kLarge) {
    if (name != lower) continue;
    *value = number;
    return true;
  }
  return false;
}

namespace {

// Phrases by their first word, so that a text is read once, whatever the number of phrases.
using PhraseIndex = std::unordered_map<std::string_view, std::vector<Phrase>>;

void Add(PhraseIndex& index, const Phrase& phrase) {
  const std::string_view first = phrase.text.substr(1, phrase.text.find(' ', 1) - 1);
  index[first].push_back(phrase);
}

KindSet FindPhrases(const PhraseIndex& index, std::string_view spaced) {
  KindSet kinds = 0;
  for (size_t at = 0; at + 1 < spaced.size();) {
    const size_t end = spaced.find(' ', at + 1);
    const auto found = index.find(spaced.substr(at + 1, end - at - 1));
    if (found != index.end()) {
      for (const Phrase& phrase : found->second) {
        if (spaced.substr(at).starts_with(phrase.text)) kinds |= phrase.kinds;
      }
    }
    at = end;
  }
  return kinds;
}

}  // namespace

KindSet KindsOf(std::string_view spaced) {
  static const auto& openers = *new Set(MakeSet(kYesNoOpeners));
  static const auto& index = *new PhraseIndex([] {
    PhraseIndex made;
    for (const Phrase& phrase : kPhrases) Add(made, phrase);
    return made;
  }());
  KindSet kinds = FindPhrases(index, spaced);
  for (const Phrase& asker : kAskers) {
    if (spaced.starts_with(asker.text)) kinds |= asker.kinds;
  }
  if (kinds == 0) {
    for (const Phrase& asker : kAskers) {
      if (spaced.find(asker.text) != std::string_view::npos) kinds |= asker.kinds;
    }
  }
  if (spaced.size() > 2) {
    const std::string_view rest = spaced.substr(1);
    if (openers.contains(rest.substr(0, rest.find(' ')))) kinds |= kYesNo;
  }
  // "How many days" asks for a duration, "how many times" for a frequency, not for a count.
  if ((kinds & (kHowLong | kHowOften)) != 0) kinds &= ~static_cast<KindSet>(kHowMany);
  return kinds;
}

bool PointsElsewhere(std::string_view spaced) {
  static const auto& index = *new PhraseIndex([] {
    PhraseIndex made;
    for (std::string_view pointer : kPointers) Add(made, {pointer, 1});
    return made;
  }());
  return FindPhrases(index, spaced) != 0;
}

}  // namespace holdfast::cache::verify
